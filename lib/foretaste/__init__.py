"""Foretaste: what each user of an online shop will want in the next hours and days."""

from foretaste import python_worker

__version__ = "0.1.0"

if python_worker.is_one():
    python_worker.keep_imports_out()
