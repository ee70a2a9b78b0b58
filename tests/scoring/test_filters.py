"""What is left out of the best k, against going through all items one by one."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from foretaste.scoring.filters import Filters, LeftOut, varied
from foretaste.scoring.topk import BLOCK, Catalogue, best_of

K = 5


def nothing_for_all(num_items: int) -> Filters:
    return Filters(closed=np.zeros(num_items, dtype=np.bool_), category=np.zeros(num_items, dtype=np.int64))


def one_by_one(scores: Tensor, closed: list[bool], pairs: set[tuple[int, int]], category: list[int], most: int | None) -> list[list[int]]:
    """The indices of each row, best first, as a person would find them."""
    found = []
    for row, of_row in enumerate(scores.tolist()):
        kept: list[int] = []
        for item in sorted(range(2, len(of_row)), key=lambda item: -of_row[item]):
            same = sum(category[other] == category[item] for other in kept)
            if not closed[item] and (row, item) not in pairs and (most is None or same < most):
                kept.append(item)
        found.append(kept[:K])
    return found


@given(st.integers(8, 60), st.integers(0, 1000), st.sampled_from([None, 1, 2]), st.floats(0, 0.9))
@settings(max_examples=60, deadline=None)
def test_the_best_that_stay_are_those_that_going_through_all_would_find(num_items: int, seed: int, most: int | None, share: float) -> None:
    random = np.random.default_rng(seed)
    scores = torch.from_numpy(random.permutation(3 * num_items).reshape(3, num_items).astype(np.float32) / num_items)
    closed, category = random.random(num_items) < share, random.integers(4, size=num_items)
    row, item = np.repeat(np.arange(3), 4), random.integers(2, num_items, size=12)
    left_out = LeftOut.of(Filters(closed=closed, category=category, most_per_category=most), row, item)
    indices, probabilities = varied(partial(best_of, scores, left_out=left_out), left_out.filters, K)
    expected = one_by_one(scores, closed.tolist(), set(zip(row.tolist(), item.tolist(), strict=True)), category.tolist(), most)
    assert [[index for index in of_row if index] for of_row in indices.tolist()] == expected
    whole = scores[:, 2:].double().softmax(1)
    for of_row, shares, found in zip(whole, probabilities, indices, strict=True):
        there = found > 0
        assert torch.allclose(shares[there], of_row[found[there] - 2])
        assert not shares[~there].any()


def test_a_catalogue_in_blocks_leaves_out_the_same() -> None:
    """The best item of all is in the last block and closed; the probabilities are shares of all items nevertheless."""
    num_items = 2 * BLOCK + 10
    weights = torch.linspace(-1, 1, num_items)[:, None]
    closed = np.zeros(num_items, dtype=np.bool_)
    closed[-1] = True
    left_out = LeftOut.of(
        Filters(closed=closed, category=np.zeros(num_items, dtype=np.int64)), np.array([1, 1]), np.array([num_items - 2, BLOCK])
    )
    represented = torch.tensor([[30.0], [30.0]])
    indices, probabilities = Catalogue(weights, torch.zeros(num_items)).best(represented, 2, left_out)
    assert indices.tolist() == [[num_items - 2, num_items - 3], [num_items - 3, num_items - 4]]
    whole = (represented.double() @ weights.double().T)[:, 2:].softmax(1)
    assert torch.allclose(probabilities, whole.gather(1, indices - 2), rtol=1e-4)


def test_rows_are_counted_from_the_first_of_a_part() -> None:
    left_out = LeftOut.of(nothing_for_all(6), np.array([0, 2, 3]), np.array([5, 4, 3]))
    part = left_out.of_rows(2, 4)
    assert part.apply(torch.zeros(2, 4), 2).tolist() == [[0, 0, -torch.inf, 0], [0, -torch.inf, 0, 0]]


def test_those_that_stay_of_a_list() -> None:
    """Items 2 to 6, of categories 1, 1, 1, 2, 2; 5 is closed."""
    closed = np.array([False, False, False, False, False, True, False])
    filters = Filters(closed=closed, category=np.array([0, 0, 1, 1, 1, 2, 2]), most_per_category=2)
    assert filters.kept(np.array([4, 2, 3, 5, 6])).tolist() == [True, True, False, False, True]


def test_where_little_is_left_there_are_fewer() -> None:
    scores = torch.tensor([[0.0, 0.0, 3.0, 2.0, 1.0]])
    filters = replace(nothing_for_all(5), category=np.array([0, 0, 1, 7, 7]), most_per_category=1)
    left_out = LeftOut.of(filters, np.array([0]), np.array([2]))
    indices, _ = varied(partial(best_of, scores, left_out=left_out), filters, 3)
    assert indices.tolist() == [[3, 0, 0]]
    assert best_of(scores, 3)[0].tolist() == [[2, 3, 4]]
    assert best_of(scores, 3)[1].sum().item() == pytest.approx(1.0)
