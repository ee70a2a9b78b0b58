"""Rows by number: what they are asked for, and what is put beside what a model wrote."""

from dataclasses import replace

import numpy as np
import torch

from foretaste.contract import FEATURES, UNKNOWN, Batch
from foretaste.models import chance
from foretaste.scoring.synthesis import Attributes, Wishes, asked_for, completed, moments

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
    attributes=Attributes.of(item=np.array([3, 2]), category=np.array([5, 4]), price=np.array([7, 1]), count=np.array([9, 1])),
    hours=np.ones(168),
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
    assert features["price"].tolist() == [[0, 7, 1, 1]]
    assert features["event"].tolist() == [[0, 5, 5, 5]]
    assert features["weekday"].tolist() == [[0, 1, 1, 1]]
    assert features["hour"].tolist() in ([[0, 4, 5, 5]], [[0, 5, 5, 5]])  # 1 + 4 o'clock, and half an hour to an hour before
    assert all(values.dtype == np.int32 for values in features.values())


def test_a_model_of_items_alone_writes_one_session_at_once() -> None:
    _, _, features = completed(written(item=[[0, 2, 3]]), torch.tensor([1]), WISHES)
    assert features["gap"].tolist() == [[0, 2, 2]]
    assert features["opens_session"].tolist() == [[0, 2, 1]]


def test_attributes_are_drawn_as_often_as_they_go_with_an_item() -> None:
    """Item 2 in three of four events: category 4, price 1; item 4 has one kind only; item 3 was never counted."""
    found = Attributes.of(
        item=np.array([4, 2, 2]), category=np.array([9, 4, 5]), price=np.array([3, 1, 2]), count=np.array([10, 3, 1])
    )  # fmt: skip
    item = np.array([[2, 2, 2, 2], [4, 3, 4, 1]])
    category, price = found.drawn(item, np.array([[0.01, 0.74, 0.76, 0.99], [0.01, 0.5, 0.99, 0.5]]))
    assert category.tolist() == [[4, 4, 5, 5], [9, UNKNOWN, 9, UNKNOWN]]
    assert price.tolist() == [[1, 1, 2, 2], [3, UNKNOWN, 3, UNKNOWN]]
    nothing = np.zeros(0, dtype=np.int64)
    assert Attributes.of(nothing, nothing, nothing, nothing).drawn(item, np.zeros(item.shape))[0].tolist() == [[UNKNOWN] * 4] * 2


def test_moments_fall_into_busy_hours_and_gaps_into_their_buckets() -> None:
    """The last event is 2^17 to 2^18 seconds (36 to 73 hours) before as_of, the one before a second earlier. Shops open at 10 and at 11."""
    hours = np.zeros(168)
    hours[[24 * day + hour for day in range(7) for hour in (10, 11)]] = [1.0, 3.0] * 7
    gap = np.tile(np.array([[3, 20]], dtype=np.int32), (2000, 1))
    as_of = np.full(2000, 1000 * HOUR)
    found = moments(as_of, gap, torch.arange(2000), replace(WISHES, hours=hours))
    assert set((found[:, 1] - found[:, 0]).tolist()) == {1_000_000}
    seconds = (as_of - found[:, 1]) / 1_000_000
    assert seconds.min() >= 1 << 17
    assert seconds.max() < 1 << 18
    of_day = np.bincount(found[:, 1] // HOUR % 24, minlength=24) / 2000
    assert of_day[[10, 11]].sum() > 0.95
    assert of_day[11] > 2 * of_day[10]


def test_a_rows_draws_are_its_own() -> None:
    seed = chance.fingerprint(torch.tensor([[1, 5], [1, 6]]))
    together, alone = asked_for(WISHES, seed), asked_for(WISHES, seed[1:])
    assert together.budget[1:].tolist() == alone.budget.tolist()
