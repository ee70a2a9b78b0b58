from typing import Any

import pytest
import torch

from foretaste.contract import Batch
from foretaste.models.heads import TRUTH, next_item_targets
from foretaste.models.rows import left_aligned
from foretaste.settings import AugmentSettings
from foretaste.training.augment import augmented
from tests.training import toys

ROWS = 60


def numbered(num_rows: int = ROWS, columns: int = 9) -> Batch[torch.Tensor]:
    """Row r holds the items 2, 3, 4, …, of 1 to `columns` events; gap tells each event's own place in the row, counted from 1."""
    length = 1 + torch.arange(num_rows) % columns
    place = torch.arange(columns) - (columns - length)[:, None]
    item = torch.where(place >= 0, 2 + place, 0)
    return Batch(
        features={"item": item.int(), "gap": torch.where(place >= 0, 1 + place, 0).int()},
        length=length.int(),
        fresh=(length // 2).int(),
        recency=torch.zeros(num_rows).int(),
        labels={"next_items": torch.full((num_rows, 2), 99).int()},
    )


def changed(batch: Batch[torch.Tensor], seed: int = 3, similar: torch.Tensor | None = None, **settings: float) -> Batch[torch.Tensor]:
    return augmented(batch, AugmentSettings(**settings), similar, seed, batch_size=len(batch.length), rank=0, size=1)


def histories(batch: Batch[torch.Tensor], feature: str = "item") -> list[list[int]]:
    """The real events of each row, and that all before them is padding."""
    rows = []
    for row, length in zip(batch.features[feature].tolist(), batch.length.tolist(), strict=True):
        assert row[: len(row) - length] == [0] * (len(row) - length)
        rows.append(row[len(row) - length :])
    return rows


def test_nothing_is_touched_unless_asked() -> None:
    batch = numbered()
    assert changed(batch) is batch


def test_crop_forgets_the_oldest_events() -> None:
    batch = numbered()
    after = changed(batch, crop=1.0)
    for before, row in zip(histories(batch), histories(after), strict=True):
        assert len(row) >= 1
        assert row == before[-len(row) :]
    assert 0.3 < after.length.sum() / batch.length.sum() < 0.8  # of n events, half on average, rounded up
    assert (after.fresh <= after.length).all()
    some = changed(batch, crop=0.5).length < batch.length
    assert 0.2 < some.float().mean() < 0.6


def test_reorder_shuffles_a_stretch_of_whole_events() -> None:
    batch = numbered()
    after = changed(batch, reorder=1.0)
    moved = 0
    for before, row, places in zip(histories(batch), histories(after), histories(after, "gap"), strict=True):
        assert sorted(row) == before
        assert [item - 1 for item in row] == places  # an event's features stay together
        wrong = [place for place, (one, other) in enumerate(zip(before, row, strict=True)) if one != other]
        if wrong:
            assert wrong[-1] - wrong[0] < max(2, -(-len(row) // 3))
            moved += 1
    assert moved > ROWS / 4
    torch.testing.assert_close(after.features[TRUTH], after.item)  # a shuffled item is a target where it now stands


def test_mask_hides_items_and_keeps_the_targets() -> None:
    batch = numbered()
    after = changed(batch, mask=0.3)
    hidden = (after.item == 1) & (batch.item > 0)
    assert 0.2 < hidden.sum() / (batch.item > 0).sum() < 0.4
    torch.testing.assert_close(torch.where(hidden, batch.item, after.item), batch.item)
    expected, actual = (next_item_targets(left_aligned(one), "next_items") for one in (batch, after))
    assert torch.equal(expected[0], actual[0])
    assert torch.equal(expected[1], actual[1])


def test_substitute_takes_one_of_the_similar_items() -> None:
    batch = numbered()
    similar = torch.zeros(11, 3, dtype=torch.int32)
    similar[:, :2] = torch.stack([10 * torch.arange(11), 10 * torch.arange(11) + 1], dim=1)  # and a third place that is empty
    after = changed(batch, similar=similar, substitute=1.0)
    known = batch.item > 0
    kept, first, second = (after.item == batch.item) & known, after.item == 10 * batch.item, after.item == 10 * batch.item + 1
    assert (kept | first | (second & known) | ~known).all()
    for share in (kept, first & known, second & known):
        assert 0.2 < share.sum() / known.sum() < 0.45
    torch.testing.assert_close(after.features[TRUTH], batch.item)


ALL: dict[str, Any] = {"crop": 0.4, "mask": 0.2, "reorder": 0.5, "substitute": 0.3}


def test_the_step_decides_and_nothing_else() -> None:
    batch, similar = numbered(), torch.randint(2, 11, (11, 3), dtype=torch.int32)
    first = changed(batch, similar=similar, **ALL)
    torch.manual_seed(99)
    torch.testing.assert_close(first.features, changed(batch, similar=similar, **ALL).features)
    assert not torch.equal(first.item, changed(batch, seed=4, similar=similar, **ALL).item)


@pytest.mark.parametrize("size", [2, 3, 7])
def test_ranks_change_their_rows_as_one_process_does(size: int) -> None:
    batch, similar = numbered(), torch.randint(2, 11, (11, 3), dtype=torch.int32)
    whole = changed(batch, similar=similar, **ALL)
    for rank in range(size):
        low, high = rank * ROWS // size, (rank + 1) * ROWS // size
        share = batch.map(lambda array, low=low, high=high: array[low:high])
        part = augmented(share, AugmentSettings(**ALL), similar, 3, batch_size=ROWS, rank=rank, size=size)
        torch.testing.assert_close(part.features, {name: feature[low:high] for name, feature in whole.features.items()})
        assert torch.equal(part.length, whole.length[low:high])


def test_binary_labels_and_recency_stay() -> None:
    batch = toys.rows(12)
    after = changed(batch, **{**ALL, "substitute": 0.0})
    assert torch.equal(after.labels["returns"], batch.labels["returns"])
    assert torch.equal(after.recency, batch.recency)
