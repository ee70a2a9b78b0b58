"""Foretaste: what each user of an online shop will want in the next hours and days."""

__version__ = "0.1.0"
