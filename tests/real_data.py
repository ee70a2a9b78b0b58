"""Where real data lies on this machine, if it does: the folder FORETASTE_DATA names, else ../shared/data beside the checkout."""

import os
from pathlib import Path

import pytest

FOLDER = Path(os.environ.get("FORETASTE_DATA", Path(__file__).parents[2] / "shared" / "data"))


def real_data(name: str) -> Path:
    """The folder of that name; the test that asks for it skips where it is not there."""
    folder = FOLDER / name
    if not folder.is_dir():
        pytest.skip(f"the real data {name} is not in {FOLDER}; set FORETASTE_DATA to the folder that has it")
    return folder
