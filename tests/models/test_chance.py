"""Random numbers of rows: spread as they should be, and a row's own."""

import math

import pytest
import torch

from foretaste.models import chance


def test_a_row_has_its_numbers_in_any_batch() -> None:
    together = chance.uniform(torch.tensor([5, -7, 5]), 3, 4)
    assert torch.equal(together[0], together[2])
    assert torch.equal(chance.uniform(torch.tensor([-7]), 3, 4)[0], together[1])
    assert not torch.equal(chance.uniform(torch.tensor([5]), 4, 4)[0], together[0])  # another stream


def test_ranks_share_the_seeds_of_one_process() -> None:
    def draw(rows: int, first: int) -> torch.Tensor:
        return chance.seeds(rows, torch.Generator().manual_seed(1), (7, first))

    assert torch.equal(torch.cat([draw(3, 0), draw(4, 3)]), chance.seeds(7, torch.Generator().manual_seed(1)))


def test_they_are_spread_as_they_should_be() -> None:
    """Seeds that follow each other, as rows' numbers do, and streams and places of one seed: no pattern in either."""
    for sample in (chance.uniform(torch.arange(20_000), 0, 1), chance.uniform(torch.tensor([9]), 1, 20_000)):
        counts = torch.histc(sample.float(), bins=20, min=0, max=1)
        assert (sample > 0).all()
        assert (sample < 1).all()
        assert float((counts - 1000).square().sum() / 1000) < 43.8  # chi-squared of 19 degrees: one in a thousand
    pair = chance.uniform(torch.arange(20_000), 0, 2)
    assert abs(float(torch.corrcoef(pair.T)[0, 1])) < 0.03
    normal = chance.normal(torch.arange(20_000), 2, 3)
    assert normal.shape == (20_000, 3)
    assert normal.mean().item() == pytest.approx(0.0, abs=0.02)
    assert normal.std().item() == pytest.approx(1.0, abs=0.02)
    assert chance.gumbel(20_000, 1, torch.Generator().manual_seed(1)).mean().item() == pytest.approx(0.5772, abs=0.03)  # Euler's constant


def test_a_choice_is_where_the_cumulative_sum_passes_the_point() -> None:
    logits = torch.tensor([-math.inf, math.log(0.2), math.log(0.5), math.log(0.3)]).expand(5, -1)
    assert chance.choice(logits, torch.tensor([1e-9, 0.19, 0.21, 0.69, 0.999999])).tolist() == [1, 1, 2, 2, 3]


def test_the_largest_of_logits_and_gumbel_noise_is_a_draw_from_the_softmax() -> None:
    share = torch.tensor([0.1, 0.6, 0.3])
    chosen = (share.log() + chance.gumbel(20_000, 3, torch.Generator().manual_seed(1))).argmax(1)
    assert (torch.bincount(chosen, minlength=3) / 20_000).tolist() == pytest.approx(share.tolist(), abs=0.015)


def test_rows_that_differ_have_other_fingerprints() -> None:
    rows = torch.tensor([[0, 2, 3], [0, 3, 2], [2, 0, 3], [0, 2, 3]])
    assert len(set(chance.fingerprint(rows).tolist())) == 3
