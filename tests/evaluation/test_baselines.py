"""What a shop could do without a model."""

import math
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from foretaste.contract import Batch, Sizes
from foretaste.errors import ModelError
from foretaste.evaluation.baselines import BaseRate, BetaGeometric, CountedBaseline, LogisticRegression, recency, rfm
from foretaste.models import build_counted

SIZES = Sizes(num_items=6)


def rows(item: list[list[int]], **features: list[list[int]]) -> Batch[torch.Tensor]:
    items = torch.tensor(item, dtype=torch.int32)
    length = (items > 0).sum(1).int()
    given = {name: torch.tensor(values, dtype=torch.int32) for name, values in features.items()}
    return Batch(features={"item": items, **given}, length=length, fresh=length, recency=torch.full_like(length, 5))


def test_a_counted_baseline_travels_as_a_path_and_scores_as_its_model(tmp_path: Path) -> None:
    tables = {"popularity": torch.tensor([0.0, 0.0, 50.0, 30.0, 20.0, 5.0])}
    save_file(tables, tmp_path / "own_items.safetensors")
    given = CountedBaseline(name="own_items", path=str(tmp_path / "own_items.safetensors"), sizes=SIZES, options=(("own_decay", 0.5),))
    model = build_counted("own_items", head="items", sizes=SIZES, own_decay=0.5)
    model.load_state_dict(tables)
    travelled = pickle.loads(pickle.dumps(given))
    batch = rows([[5, 3, 5], [0, 0, 4]])
    assert torch.equal(travelled.score(batch), model.score(batch))
    assert travelled.shares().tolist() == pytest.approx([0, 0, 50 / 105, 30 / 105, 20 / 105, 5 / 105])


def test_counts_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="the counts of markov cannot be read"):
        CountedBaseline(name="markov", path=str(tmp_path / "none"), sizes=SIZES).score(rows([[2]]))


def test_the_majority_baseline_knows_the_base_rate() -> None:
    scores = BaseRate(0.2).score(rows([[0, 2], [3, 4]]))
    assert torch.sigmoid(scores).tolist() == pytest.approx([0.2, 0.2])


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_a_base_rate_of_nothing_or_all_stays_finite(share: float) -> None:
    assert BaseRate(share).score(rows([[0, 2]])).isfinite().all()


def test_rfm_by_hand() -> None:
    found = rfm(rows([[0, 2, 3], [2, 3, 4]], opens_session=[[0, 2, 1], [2, 2, 1]], price=[[0, 4, 1], [1, 1, 1]]))
    assert found.tolist() == [
        pytest.approx([5, 25, math.log(3), math.log(2), 4.0]),  # one of its two events has a price
        pytest.approx([5, 25, math.log(4), math.log(3), 0.0]),
    ]


def test_logistic_regression_is_linear_in_rfm() -> None:
    fitted = LogisticRegression((0.1, 0.0, 1.0, 0.0, 0.0), -2.0)
    scores = fitted.score(rows([[0, 2, 3]], opens_session=[[0, 2, 1]], price=[[0, 4, 1]]))
    assert scores.tolist() == pytest.approx([0.1 * 5 + math.log(3) - 2.0])


def with_facts(repeats: list[int], idle_hours: list[int], tenure_hours: list[int]) -> Batch[torch.Tensor]:
    facts = {"repeats": repeats, "idle_hours": idle_hours, "tenure_hours": tenure_hours}
    return replace(rows([[2]] * len(repeats)), facts={name: torch.tensor(values, dtype=torch.int32) for name, values in facts.items()})


def test_recency_is_the_time_since_the_last_activity() -> None:
    assert recency(with_facts([0, 3], [0, 23], [0, 99])).tolist() == [[0.0], [pytest.approx(math.log(24))]]


def test_bg_nbd_by_hand_and_by_simulation() -> None:
    """Rates are gamma(2, 30 days), drop-outs beta(1, 3). Who bought but once cannot have dropped out: ((30 + 20) / (30 + 20 + 10)) ** 2.

    Of customers that are simulated for 20 days and 10 more, those with as many repeats and nearly the same last day stay away as often.
    """
    model = BetaGeometric(r=2.0, alpha=30.0, a=1.0, b=3.0, days=10)
    once = torch.sigmoid(model.score(with_facts([0], [480], [480])))
    assert once.item() == pytest.approx((50 / 60) ** 2)

    random = np.random.default_rng(0)
    number = 400_000
    rate, leaves = random.gamma(2.0, 1 / 30, number), random.beta(1.0, 3.0, number)
    now, repeats, last, came = np.zeros(number), np.zeros(number, int), np.zeros(number), np.zeros(number, bool)
    stays = np.ones(number, bool)
    while (stays & (now < 30)).any():
        now = np.where(stays, now + random.exponential(1 / rate), now)
        known = stays & (now < 20)
        repeats, last = repeats + known, np.where(known, now, last)
        came |= stays & (now >= 20) & (now < 30)
        stays &= random.random(number) >= leaves  # may drop out after a repeat, not after the first purchase
    for count, about in ((1, 5.0), (2, 12.0), (3, 18.0)):
        alike = (repeats == count) & (abs(last - about) < 1)
        foretold = torch.sigmoid(model.score(with_facts([count], [round(24 * (20 - about))], [480]))).item()
        assert foretold == pytest.approx(1 - came[alike].mean(), abs=4 * 0.5 / math.sqrt(alike.sum()))
