"""Rows by number: what they are asked for, and what is put beside what a model wrote."""

from dataclasses import replace

import numpy as np
import torch

from foretaste.contract import FEATURES, Batch
from foretaste.models import chance
from foretaste.scoring.synthesis import Wishes, asked_for, completed

HOUR = 3_600_000_000
UTC = (np.array([0]), np.array([0]))
NOTHING = np.zeros(0, dtype=np.int64)
WISHES = Wishes(
    budget=np.array([2, 5]),
    category=np.array([0, 3]),
    campaign=np.array([1, 2]),
    weight=np.array([3.0, 1.0]),
    cold=NOTHING,
    cold_share=0.0,
    as_of=np.array([100 * HOUR]),  # a Monday, 4 o'clock
    recency=np.array([2], dtype=np.int32),  # at once
    category_of_item=np.array([0, 0, 4, 5]),
    price_of_item=np.array([0, 0, 0, 7]),
    event=5,
    zone=UTC,
)


def written(**features: list[list[int]]) -> Batch[torch.Tensor]:
    codes = {name: torch.tensor(values, dtype=torch.int32) for name, values in features.items()}
    length = (codes["item"] > 0).sum(1).int()
    return Batch(features=codes, length=length, fresh=length, recency=length)


def test_conditions_are_drawn_together_as_often_as_they_are_found() -> None:
    asked = asked_for(WISHES, torch.arange(4000))
    assert set(zip(asked.budget.tolist(), asked.category.tolist(), asked.campaign.tolist(), strict=True)) == {(2, 0, 1), (5, 3, 2)}
    assert abs((asked.budget == 2).float().mean().item() - 0.75) < 0.03
    assert asked.item.sum() == 0


def test_so_many_rows_are_asked_to_hold_a_cold_item() -> None:
    asked = asked_for(replace(WISHES, cold=np.array([8, 9]), cold_share=0.3), torch.arange(4000))
    assert set(asked.item.tolist()) == {0, 8, 9}
    assert abs((asked.item > 0).float().mean().item() - 0.3) < 0.03


def test_what_a_model_does_not_write_follows_from_what_it_does() -> None:
    """Gaps: of an hour and more (bucket 14: 2,048 to 4,095 s), at once. So the second and third event were as_of, the first before."""
    batch = written(item=[[0, 3, 2, 2]], gap=[[0, 1, 14, 2]], opens_session=[[0, 2, 2, 1]])
    as_of, recency, features = completed(batch, torch.tensor([1]), WISHES)
    assert (as_of.tolist(), recency.tolist()) == ([100 * HOUR], [2])
    assert set(features) == set(FEATURES)
    assert features["category"].tolist() == [[0, 5, 4, 4]]
    assert features["price"].tolist() == [[0, 7, 1, 1]]  # item 2 has none: unknown
    assert features["event"].tolist() == [[0, 5, 5, 5]]
    assert features["weekday"].tolist() == [[0, 1, 1, 1]]
    assert features["hour"].tolist() in ([[0, 4, 5, 5]], [[0, 5, 5, 5]])  # 1 + 4 o'clock, and half an hour to an hour before
    assert all(values.dtype == np.int32 for values in features.values())


def test_a_model_of_items_alone_writes_one_session_at_once() -> None:
    _, _, features = completed(written(item=[[0, 2, 3]]), torch.tensor([1]), WISHES)
    assert features["gap"].tolist() == [[0, 2, 2]]
    assert features["opens_session"].tolist() == [[0, 2, 1]]


def test_a_rows_draws_are_its_own() -> None:
    seed = chance.fingerprint(torch.tensor([[1, 5], [1, 6]]))
    together, alone = asked_for(WISHES, seed), asked_for(WISHES, seed[1:])
    assert together.budget[1:].tolist() == alone.budget.tolist()
