"""Exact top-k in blocks."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from foretaste.scoring import topk
from foretaste.scoring.topk import APART, BLOCK, ROWS, TILE, Catalogue, top_k

NOT = -torch.inf


SMALL = {"TILE": 32, "APART": 8, "FEW": 8, "BLOCK": 64, "ROWS": 2}  # so that a few items are looked through as many are


@given(st.integers(1, 400), st.integers(1, 9), st.integers(0, 10_000), st.sampled_from([1.0, 3.0, 1e6]))
@settings(max_examples=100, deadline=None)
def test_the_largest_values_are_torchs(num_columns: int, k: int, seed: int, spread: float) -> None:
    scores = (torch.randn((4, num_columns), generator=torch.Generator().manual_seed(seed)) * spread).round() / spread  # with ties
    with pytest.MonkeyPatch.context() as small:
        for name, value in SMALL.items():
            small.setattr(topk, name, value)
        values, indices = top_k(scores, min(k, num_columns))
    assert torch.equal(values, scores.topk(min(k, num_columns)).values)
    assert torch.equal(scores.gather(1, indices), values)
    assert all(len(set(row)) == len(row) for row in indices.tolist())


def test_rows_that_share_their_memory_are_as_good_as_any() -> None:
    scores = torch.arange(50_000.0).expand(3, -1)  # as a popularity baseline gives them
    assert top_k(scores, 2)[1].tolist() == [[49_999, 49_998]] * 3


def test_a_nan_comes_first_so_that_it_is_seen() -> None:
    scores = torch.zeros((1, 50_000))
    scores[0, 500] = torch.nan
    assert top_k(scores, 3)[0][0, 0].isnan()


@pytest.mark.parametrize("num_items", [3, 40, APART + 2, 500, TILE + 2, TILE + 7, BLOCK + 2, BLOCK + TILE + 100, 2 * BLOCK + 100])
def test_a_catalogue_of_any_size_gives_the_full_softmaxs_best(num_items: int) -> None:
    generator = torch.Generator().manual_seed(num_items)
    weights = torch.randn((num_items, 8), generator=generator)
    bias = torch.cat([torch.full((2,), NOT), torch.linspace(0, -3, num_items - 2)])
    represented = torch.randn((5, 8), generator=generator) * 3
    logits = (represented.double() @ weights.double().T + bias.double())[:, 2:]
    expected = logits.softmax(1).topk(min(10, num_items - 2))
    indices, probabilities = Catalogue(weights, bias).best(represented, 10)
    assert torch.allclose(probabilities, expected.values, atol=1e-6)
    assert torch.equal(indices, expected.indices + 2)


def test_padding_and_unknown_are_never_named_even_with_the_best_weights() -> None:
    weights = torch.tensor([[9.0], [9.0], [1.0], [0.0]])
    indices, probabilities = Catalogue(weights, torch.zeros(4)).best(torch.ones((1, 1)), 10)
    assert indices.tolist() == [[2, 3]]
    assert probabilities.sum().item() == pytest.approx(1.0)


def test_huge_scores_do_not_overflow() -> None:
    weights = torch.linspace(-1, 1, BLOCK * 2 + 2)[:, None]  # the best are in the last block, e^2000 above the first
    _, probabilities = Catalogue(weights, torch.zeros(len(weights))).best(torch.full((1, 1), 1e3), 3)
    assert probabilities[0, 0] > probabilities[0, 1] > probabilities[0, 2] > 0
    assert probabilities.isfinite().all()


@given(st.integers(3, 600), st.integers(1, 40), st.integers(0, 10_000))
@settings(max_examples=100, deadline=None)
def test_tiles_and_blocks_of_any_size_give_the_best(num_items: int, k: int, seed: int) -> None:
    """Scores are whole numbers, so that many are equal: values are compared, and that no item is named twice."""
    generator = torch.Generator().manual_seed(seed)
    weights = torch.randint(-3, 4, (num_items, 2), generator=generator).float()
    represented = torch.randint(-3, 4, (5, 2), generator=generator).float()
    with pytest.MonkeyPatch.context() as small:
        for name, value in SMALL.items():
            small.setattr(topk, name, value)
        indices, probabilities = Catalogue(weights, torch.zeros(num_items)).best(represented, k)
    logits = (represented @ weights.T)[:, 2:]
    expected = logits.double().softmax(1).topk(min(k, num_items - 2))
    assert torch.allclose(probabilities, expected.values, atol=1e-6)
    assert torch.equal(logits.gather(1, indices - 2), logits.topk(min(k, num_items - 2)).values)
    assert all(len(set(row)) == len(row) for row in indices.tolist())


def test_a_score_that_is_no_number_makes_the_rows_probabilities_none() -> None:
    weights = torch.zeros((TILE + 10, 1))
    weights[TILE + 5] = torch.nan
    _, probabilities = Catalogue(weights, torch.zeros(len(weights))).best(torch.ones((2, 1)), 3)
    assert probabilities.isnan().all()


def test_no_more_than_a_block_of_scores_is_held() -> None:
    catalogue = Catalogue(torch.randn(3 * BLOCK, 4), torch.zeros(3 * BLOCK))
    catalogue.best(torch.randn(2 * ROWS, 4), 5)
    assert catalogue.memory.shape == (ROWS * BLOCK,)
    assert catalogue.of_tile.shape == (ROWS * TILE,)
