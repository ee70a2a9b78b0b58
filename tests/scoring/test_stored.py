"""A stored model that scores rows whose numbers another vocabulary gave."""

from pathlib import Path

import torch

from foretaste.scoring.stored import StoredScorer
from tests.scoring.stored import batch, store

OLD = {"milk": 50, "bread": 30, "eggs": 15, "salt": 5}
NEW = {"caviar": 60, "salt": 40, "milk": 30, "bread": 20}  # eggs are gone, caviar has come


def test_an_item_keeps_its_name_whatever_its_number(tmp_path: Path) -> None:
    old, new = store(tmp_path, OLD), store(tmp_path, NEW)
    own = StoredScorer(root=str(tmp_path), name="interest", version=old.version, rows_of=old.version)
    theirs = StoredScorer(root=str(tmp_path), name="interest", version=old.version, rows_of=new.version)
    numbers = {name: {item: 2 + place for place, item in enumerate(items)} for name, items in (("old", OLD), ("new", NEW))}
    as_old = batch([[0, numbers["old"]["salt"], numbers["old"]["milk"]], [0, 1, numbers["old"]["bread"]]]).map(torch.tensor)
    as_new = batch([[0, numbers["new"]["salt"], numbers["new"]["milk"]], [0, numbers["new"]["caviar"], numbers["new"]["bread"]]])
    expected, found = own.score(as_old), theirs.score(as_new.map(torch.tensor))
    for item in ("milk", "bread", "salt"):
        assert torch.equal(found[:, numbers["new"][item]], expected[:, numbers["old"][item]])
    assert (found[:, [0, 1, numbers["new"]["caviar"]]] == -torch.inf).all()
