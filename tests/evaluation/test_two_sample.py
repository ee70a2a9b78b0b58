"""A classifier that tells sets of rows apart where they differ, and not where they do not."""

import numpy as np
import pytest

from foretaste.contract import FEATURES
from foretaste.evaluation.two_sample import area, row_numbers, separability


def rows(seed: int, last: int = 9, num: int = 300) -> dict[str, np.ndarray]:
    item = np.random.default_rng(seed).integers(2, last, (num, 5)).astype(np.int32)
    item[:, 0] = 0
    return {name: item if name == "item" else np.minimum(item, 1) for name in FEATURES}


def test_what_is_drawn_alike_cannot_be_told_apart_and_what_is_not_can() -> None:
    same = separability(rows(1), rows(2), seed=0)
    assert 0.4 < same.value < 0.6
    assert same.low < same.value < same.high
    assert separability(rows(1), rows(2, last=6), seed=0).value > 0.9


def test_the_area_by_hand() -> None:
    """Of the four pairs the positive one is ahead in three."""
    assert area(np.array([0, 0, 1, 1]), np.array([0.1, 0.6, 0.5, 0.9]), seed=0).value == 0.75


def test_numbers_of_a_row_by_hand() -> None:
    """Items 2 2 3: three events, two different items, one repeat, no session opened."""
    item = np.array([[0, 2, 2, 3]], dtype=np.int32)
    numbers = row_numbers({name: item if name == "item" else np.minimum(item, 1) for name in FEATURES})[0]
    assert numbers[:4].tolist() == pytest.approx([3, 2 / 3, 1 / 3, 0])
    assert numbers[4] == pytest.approx(np.log1p([2, 2, 3]).mean())
    assert numbers[-128:-64].sum() == pytest.approx(1.0)  # shares of items, then of pairs
    assert numbers[-64:].sum() == pytest.approx(1.0)
