"""When a row had a candidate: by hand."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from foretaste.contract import Batch, gap_bucket
from foretaste.models.own_events import DAY, FADES_DAYS, FADES_EVENTS, LEAST, NUM_OWN, own_events, seconds_ago

A, B, C = 2, 3, 4


def row(items: list[int], gaps: list[float], since: float) -> Batch[torch.Tensor]:
    """One row, padded by one event; `gaps` and `since` in seconds, NaN for no event before."""
    item = torch.tensor([[0, *items]], dtype=torch.int32)
    gap = torch.from_numpy(np.concatenate([[0], gap_bucket(np.array(gaps))]).astype(np.int32))[None]
    length = torch.tensor([len(items)], dtype=torch.int32)
    recency = torch.from_numpy(gap_bucket(np.array([since])))
    return Batch(features={"item": item, "gap": gap}, length=length, fresh=length, recency=recency)


def scaled(weight: float) -> float:
    return float(np.log1p(weight / LEAST) / np.log1p(1 / LEAST))


def test_by_hand() -> None:
    """A, then B four days later, then A at once, seen at once: of A, 0 events and 0 days ago, and the first one faded."""
    days = 1.5 * 2**18 / DAY  # the middle of the bucket that four days fall into: 2^18 to 2^19 seconds
    found = own_events(row([A, B, A], [np.nan, 4 * DAY, 0.0], 0.0), torch.tensor([[A, B, C]]))
    assert found.shape == (1, 3, NUM_OWN)
    of_a = [1 + np.exp(-2 / fade) for fade in FADES_EVENTS] + [1 + np.exp(-days / fade) for fade in FADES_DAYS]
    of_b = [np.exp(-1 / fade) for fade in FADES_EVENTS] + [1.0 for _ in FADES_DAYS]
    assert found[0, 0].tolist() == pytest.approx([1.0, 1.0, *map(scaled, of_a)], abs=1e-5)
    assert found[0, 1].tolist() == pytest.approx([0.5, 1.0, *map(scaled, of_b)], abs=1e-5)
    assert found[0, 2].tolist() == [0.0] * NUM_OWN


@given(gaps=st.lists(st.floats(0, 1e7), min_size=1, max_size=6), since=st.floats(0, 1e7))
def test_the_time_since_an_event_is_right_to_a_factor_of_two(gaps: list[float], since: float) -> None:
    found = seconds_ago(row([A] * len(gaps), [np.nan, *gaps[1:]], since))[0, 1:]
    known = [sum(np.floor(gaps[place + 1 :])) + np.floor(since) for place in range(len(gaps))]
    for mine, truth in zip(found.tolist(), known, strict=True):
        assert truth / 2 <= mine <= 2 * truth or truth == mine == 0
