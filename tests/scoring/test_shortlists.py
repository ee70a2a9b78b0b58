"""Shortlists beside the whole catalogue that they stand for."""

from pathlib import Path

import numpy as np
import pytest
import torch

from foretaste.contract import FIRST_INDEX, PAD
from foretaste.scoring.filters import Filters, LeftOut
from foretaste.scoring.shortlists import Shortlists, _nearest, build
from foretaste.scoring.topk import Catalogue

NUM_ITEMS, WIDTH, K = 4000, 16, 10
NOBODY = np.zeros(NUM_ITEMS, dtype=np.bool_)


def catalogue() -> Catalogue:
    weights = torch.randn((NUM_ITEMS, WIDTH), generator=torch.Generator().manual_seed(1))
    return Catalogue(weights, torch.cat([torch.full((FIRST_INDEX,), -torch.inf), torch.linspace(0, -3, NUM_ITEMS - FIRST_INDEX)]))


def tastes(users: int, seed: int) -> np.ndarray:
    """Users of one of twenty tastes, each with a little of their own."""
    random = np.random.default_rng(seed)
    of_groups = np.random.default_rng(0).normal(size=(20, WIDTH))
    return (of_groups[random.integers(0, 20, users)] + random.normal(size=(users, WIDTH)) * 0.2).astype(np.float32)


def made(closed: np.ndarray | None = None) -> Shortlists:
    found, _ = build(catalogue(), tastes(3000, 2), closed, groups=20, recall=0.98, k=K, seed=0)
    assert found is not None
    return found


def test_other_users_find_their_exact_best_and_its_probabilities_on_a_part_of_the_catalogue() -> None:
    shortlists, worth = build(catalogue(), tastes(3000, 2), None, groups=20, recall=0.98, k=K, seed=0)
    assert shortlists is not None
    others = torch.from_numpy(tastes(500, 3))
    indices, probabilities = shortlists.best(others, K)
    exact, of_all = catalogue().best(others, K)
    recall = (indices[:, :, None] == exact[:, None]).any(2).double().mean().item()
    assert recall > 0.97
    assert recall == pytest.approx(worth.recall, abs=0.02)
    assert worth.items == shortlists.items.shape[1] < NUM_ITEMS // 4
    same = indices[:, 0] == exact[:, 0]
    assert (probabilities[same, 0] / of_all[same, 0] - 1).abs().quantile(0.95).item() == pytest.approx(worth.off, abs=0.03)
    assert worth.off < 0.2


def test_a_taste_that_is_its_groups_centre_has_the_sum_over_all_items_exactly() -> None:
    shortlists = made()
    indices, probabilities = shortlists.best(shortlists.centres, K)
    exact, of_all = catalogue().best(shortlists.centres, K)
    assert torch.equal(indices, exact)
    assert torch.allclose(probabilities, of_all, rtol=1e-4)


def test_users_in_another_order_get_the_same() -> None:
    shortlists, users = made(), torch.from_numpy(tastes(50, 4))
    order = torch.randperm(50, generator=torch.Generator().manual_seed(0))
    indices, probabilities = shortlists.best(users, K)
    again = shortlists.best(users[order], K)
    assert torch.equal(again[0], indices[order])
    assert torch.allclose(again[1], probabilities[order])


def test_what_is_left_out_is_never_named_and_others_keep_their_probabilities() -> None:
    users = torch.from_numpy(tastes(6, 5))
    favourite = catalogue().best(users, 1)[0][:, 0]
    closed = NOBODY.copy()
    closed[favourite[:2]] = True
    shortlists = made(closed)
    assert not set(favourite[:2].tolist()) & set(shortlists.items.flatten().tolist())
    filters = Filters(closed=closed, category=np.zeros(NUM_ITEMS, dtype=np.int64))
    plain = shortlists.best(users, K + 1)
    row, item = np.array([4, 3, 5]), plain[0][[4, 3, 5], 0].numpy()  # each one's best
    indices, probabilities = shortlists.best(users, K, LeftOut.of(filters, row, item))
    for user in range(6):
        first = 1 if user in row else 0
        assert indices[user].tolist() == plain[0][user, first : first + K].tolist()
        assert torch.allclose(probabilities[user], plain[1][user, first : first + K])


def test_somebody_to_whom_the_whole_list_is_closed_gets_nothing() -> None:
    shortlists, user = made(), torch.from_numpy(tastes(1, 6))
    listed = shortlists.items[_nearest(shortlists.centres, user)[0]].numpy()
    filters = Filters(closed=NOBODY, category=np.zeros(NUM_ITEMS, dtype=np.int64))
    indices, probabilities = shortlists.best(user, K, LeftOut.of(filters, np.zeros(len(listed), dtype=np.int64), listed))
    assert indices.tolist() == [[PAD] * K]
    assert probabilities.tolist() == [[0.0] * K]


def test_where_lists_would_be_half_of_the_catalogue_there_are_none() -> None:
    random = np.random.default_rng(0)
    small = Catalogue(torch.randn((60, WIDTH)), torch.zeros(60))
    found, worth = build(small, random.normal(size=(1000, WIDTH)).astype(np.float32), None, groups=4, recall=0.99, k=K, seed=0)
    assert found is None
    assert worth.items > 29
    more_than_there_are, _ = build(small, random.normal(size=(1000, WIDTH)).astype(np.float32), None, groups=4, recall=0.99, k=100, seed=0)
    assert more_than_there_are is None


def test_they_are_stored_and_read_without_a_difference(tmp_path: Path) -> None:
    shortlists, users = made(), torch.from_numpy(tastes(20, 7))
    shortlists.save(tmp_path / "there" / "lists.safetensors")
    read = Shortlists.load(str(tmp_path / "there" / "lists.safetensors"), catalogue())
    for one, other in zip(shortlists.best(users, K), read.best(users, K), strict=True):
        assert torch.equal(one, other)
