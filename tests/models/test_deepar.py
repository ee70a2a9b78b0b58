"""DeepAR on two items: likelihoods by scipy, paths from the distribution that it foretells, and answers that depend on the row alone."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import nbinom
from torch import Tensor

from foretaste.contract import NUM_PROMOTIONS, Batch, Sizes
from foretaste.errors import ModelError
from foretaste.models import DeepAR, build
from foretaste.models.deepar import LEAST_SCALE, NUM_PATHS, WARM_UP
from foretaste.models.losses import negative_binomial_loss

PAST, AHEAD = 14, 3


def batch(*, planned: int = 0) -> Batch[Tensor]:
    """One item that is sold on all days, 4 and 1 in turn, and one that began 10 days ago, 1 a day. planned: percent, on the last day."""
    days = PAST + AHEAD
    there = np.array([[1] * days, [0] * 4 + [1] * (days - 4)])
    promotion = np.zeros((2, NUM_PROMOTIONS, days), dtype=np.int32)
    promotion[:, 1, -1] = planned
    features = {
        "units": np.stack([np.tile([4, 1], PAST // 2), np.repeat([0, 1], [4, 10])]),
        "price_level": 100 * there,
        "weekday": (np.arange(days) % 7 + 1) * there,
        "monthday": (np.arange(days) % 31 + 1) * there,
        "promotion": promotion.reshape(2, -1),
    }
    told = Batch(
        features={name: column.astype(np.int32) for name, column in features.items()},
        length=np.array([14, 10], dtype=np.int32),
        fresh=np.array([14, 10], dtype=np.int32),
        recency=np.array([2, 2], dtype=np.int32),
        labels={"units_ahead": np.array([[4, 1, 4], [1, 1, 1]], dtype=np.int32)},
    )
    return told.map(torch.from_numpy)


def model() -> DeepAR:
    torch.manual_seed(0)
    found = (
        build("deepar", head="counts", label="units_ahead", sizes=Sizes(num_items=2, length=PAST, days=AHEAD), size="tiny")
        .eval()
        .requires_grad_(False)
    )
    assert isinstance(found, DeepAR)
    return found


def test_the_loss_is_that_of_scipys_negative_binomial() -> None:
    count, mean, shape = (torch.tensor(values) for values in ([0.0, 3.0, 40.0], [0.2, 5.0, 30.0], [0.5, 2.0, 1e4]))
    expected = -nbinom.logpmf(count.numpy(), shape.numpy(), (shape / (shape + mean)).numpy())
    assert negative_binomial_loss(count, mean, shape).numpy() == pytest.approx(expected, abs=2e-3)


def test_known_days_past_the_first_week_and_those_ahead_are_learnt() -> None:
    with torch.no_grad():
        [loss] = model().step(batch())
    assert int(loss.count) == (PAST - WARM_UP + AHEAD) + (10 - WARM_UP + AHEAD)
    assert torch.isfinite(loss.total)


def test_a_day_knows_nothing_of_those_that_follow() -> None:
    """Other units on the last day change the loss of that day alone."""
    network, rows = model(), batch()
    other = replace(rows, labels={"units_ahead": torch.tensor([[4, 1, 9], [1, 1, 9]], dtype=torch.int32)})
    before, after = network.horizon_losses(rows), network.horizon_losses(other)
    assert torch.equal(before[:, :2], after[:, :2])
    assert not torch.isclose(before[:, 2], after[:, 2]).any()


def test_a_plan_moves_its_own_day_alone() -> None:
    network = model()
    plain, planned = network.score(batch()), network.score(batch(planned=90))
    assert torch.equal(plain[:, :, :2], planned[:, :, :2])
    assert not torch.equal(plain[:, :, 2], planned[:, :, 2])


def test_paths_have_the_foretold_mean() -> None:
    """Of the first day, whose distribution needs no path: the mean of 128 evenly spread points is near that of the distribution."""
    network, rows = model(), batch()
    paths = network.score(rows)
    assert paths.shape == (2, NUM_PATHS, AHEAD)
    assert bool((paths >= 0).all())
    assert torch.equal(paths, paths.round())
    scale = torch.tensor([[2.5], [1.0]]) + LEAST_SCALE
    assert torch.allclose(network._scale(rows), scale)
    units = torch.cat([rows.features["units"], rows.labels["units_ahead"]], dim=1).float()
    before = torch.cat([torch.zeros(2, 1), units[:, :-1]], dim=1)
    told = torch.stack([(before / scale).log1p(), (before > 0).float()], dim=2)
    states, _ = network._run(torch.cat([told, network._planned(rows)], dim=2))
    mean, _ = network.units.distribution(states[:, PAST], scale)
    assert paths[:, :, 0].mean(1).numpy() == pytest.approx(mean.detach().numpy(), rel=0.05)


def test_an_answer_depends_on_the_row_alone() -> None:
    network, rows = model(), batch()
    alone = rows.map(lambda array: array[1:])
    assert torch.equal(network.score(rows)[1:], network.score(alone))


def test_it_has_no_other_head() -> None:
    with pytest.raises(ModelError, match="no head is called 'counts'"):
        build("gru", head="counts", label="units_ahead", sizes=Sizes(num_items=5), size="tiny")
