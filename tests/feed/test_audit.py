from pathlib import Path

import pytest

from foretaste.errors import FeedError
from foretaste.feed import audit as module
from foretaste.feed.audit import audit
from foretaste.feed.order import Order, Section
from tests.feed import files

UNEVEN = [[4, 4, 1, 4, 2], [4] * 6, [3], [7, 5, 4, 4, 4, 4], [4, 2]]  # 76 rows in 20 row groups


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_two_epochs_see_every_row(tmp_path: Path, size: int) -> None:
    report = audit(files.write(tmp_path, UNEVEN), size, 10, range(2), seed=0)
    assert report.is_exact
    assert report.num_rows == 76
    assert report.never_seen == 0
    for epoch in report.epochs:
        assert epoch.steps == (7,) * size
        assert (epoch.seen, epoch.seen_twice, epoch.never_seen, epoch.remainder) == (70, 0, 6, 6)


def test_one_epoch_leaves_its_remainder_unseen(tmp_path: Path) -> None:
    report = audit(files.write(tmp_path, UNEVEN), 2, 10, [3], seed=0)
    assert report.is_exact
    assert report.never_seen == 6


def test_a_wrong_share_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All ranks read the first one's part: what they share is seen twice, and the rest never."""

    class Wrong(Order):
        def sections(self, *, rank: int, size: int, drop_uneven: bool) -> list[Section]:
            return super().sections(rank=0, size=size, drop_uneven=drop_uneven)

    monkeypatch.setattr(module, "Order", Wrong)
    report = audit(files.write(tmp_path, [[5] * 8]), 2, 10, [0], seed=0)
    assert not report.is_exact
    epoch = report.epochs[0]
    assert (epoch.steps, epoch.seen, epoch.seen_twice, epoch.never_seen) == ((4, 4), 20, 20, 20)


def test_what_cannot_be_shared_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FeedError, match="3 ranks cannot share 2 row groups"):
        audit(files.write(tmp_path, [[5, 5]]), 3, 4, [0], seed=0)
