"""What a shop could do without a model."""

import math
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from foretaste.contract import Batch, Sizes
from foretaste.errors import ModelError
from foretaste.evaluation.baselines import BINARY_BASELINES, BinaryFit, CountedBaseline, rfm
from foretaste.models import build_counted

SIZES = Sizes(num_items=6)
FIT = BinaryFit(base_rate=0.2, coefficients=(0.1, 0.0, 1.0, 0.0, 0.0), intercept=-2.0)


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
    scores = BINARY_BASELINES["majority"](FIT).score(rows([[0, 2], [3, 4]]))
    assert torch.sigmoid(scores).tolist() == pytest.approx([0.2, 0.2])


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_a_base_rate_of_nothing_or_all_stays_finite(share: float) -> None:
    fit = BinaryFit(base_rate=share, coefficients=FIT.coefficients, intercept=0.0)
    assert BINARY_BASELINES["majority"](fit).score(rows([[0, 2]])).isfinite().all()


def test_rfm_by_hand() -> None:
    found = rfm(rows([[0, 2, 3], [2, 3, 4]], opens_session=[[0, 2, 1], [2, 2, 1]], price=[[0, 4, 1], [1, 1, 1]]))
    assert found.tolist() == [
        pytest.approx([5, 25, math.log(3), math.log(2), 4.0]),  # one of its two events has a price
        pytest.approx([5, 25, math.log(4), math.log(3), 0.0]),
    ]


def test_logistic_regression_is_linear_in_rfm() -> None:
    scores = BINARY_BASELINES["logistic_rfm"](FIT).score(rows([[0, 2, 3]], opens_session=[[0, 2, 1]], price=[[0, 4, 1]]))
    assert scores.tolist() == pytest.approx([0.1 * 5 + math.log(3) - 2.0])
