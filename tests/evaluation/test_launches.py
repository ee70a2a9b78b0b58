"""Who is among the best of a new item, by hand; the numbers of a user."""

import numpy as np
import pyarrow as pa
import pytest
import torch

from foretaste.contract import Batch
from foretaste.evaluation.launches import FOUND, FoundSums, metrics
from foretaste.evaluation.passes import USER_HASH
from foretaste.scoring.launches import NUMBERS, activity, affinity, chances


def rows() -> Batch[torch.Tensor]:
    """A user with 31 sessions in 24 days, the last one two days ago, four events in the last two of them; and one who came once, today."""
    features = {"category": [[0, 3, 4, 3, 3], [0, 0, 0, 0, 4]], "opens_session": [[0, 2, 1, 2, 1], [0, 0, 0, 0, 2]]}
    facts = {"repeats": [30, 0], "idle_hours": [48, 0], "tenure_hours": [24 * 24, 0]}
    told = {name: torch.tensor(values, dtype=torch.int32) for name, values in {**features, **facts}.items()}
    one = torch.ones(2, dtype=torch.int32)
    return Batch(
        features={name: told[name] for name in features},
        facts={name: told[name] for name in facts},
        length=torch.tensor([4, 1], dtype=torch.int32),
        fresh=one,
        recency=one,
    )


def test_numbers_of_a_user() -> None:
    expected = [[np.log(31 / 31), np.log(2), np.log(3)], [np.log(1 / 7), 0, 0]]
    assert activity(rows()).numpy() == pytest.approx(np.array(expected))


def test_affinity_counts_the_events_of_the_category() -> None:
    assert affinity(rows(), torch.tensor([3, 4, 0])).tolist() == [[3, 1, 0], [0, 1, 0]]


def test_chances_lie_on_the_line() -> None:
    """A user and two items, of which the second is half as likely and of a category of which the user bought once."""
    line = {**dict(zip(NUMBERS, (1.0, 4.0, 2.0, 0.5, -1.0), strict=True)), "intercept": 3.0}
    told = [[[-1.0, 0.0, 0.1, 0.2, 0.3], [-2.0, np.log(2), 0.1, 0.2, 0.3]]]
    found = chances(line, torch.tensor(told, dtype=torch.float64))
    assert found.numpy() == pytest.approx(np.array([[3 - 1 + 0.2 + 0.1 - 0.3, 3 - 2 + 4 * np.log(2) + 0.2 + 0.1 - 0.3]]))


def test_found_buyers_add_up() -> None:
    told = {
        "scorer": pa.array(["model", "model", "model", "random"]),
        USER_HASH: pa.array([1, 2, 3, 1]),
        "found": pa.array([[1.0, 1.0], [0.0, 0.5], [0.0, 0.0], [0.25, 1.0]]),
    }
    parts = {part.column("scorer")[0].as_py(): part for part in FoundSums(replicates=10, seed=0)([pa.RecordBatch.from_pydict(told)])}
    sums = {name: np.array(part.column("sums")[0].as_py()).reshape(3, 11) for name, part in parts.items()}
    assert sums["model"][:, 0].tolist() == [3.0, 1.0, 1.5]
    assert {name: values[0] for name, values in metrics(sums["model"]).items()} == {FOUND[0]: 1 / 3, FOUND[1]: 0.5}
    assert {name: values[0] for name, values in metrics(sums["random"]).items()} == {FOUND[0]: 0.25, FOUND[1]: 1.0}
