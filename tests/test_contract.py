"""The contract's numbers, by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foretaste.contract import FEATURES, NUM_GAP_BUCKETS, UNKNOWN, Batch, Sizes, gap_bucket, seconds_of


@pytest.mark.parametrize(
    ("seconds", "bucket"),
    [(np.nan, UNKNOWN), (0, 2), (0.9, 2), (1, 3), (2, 4), (3, 4), (4, 5), (7, 5), (8, 6), (3600, 14), (86400, 19), (10**12, 27)],
)
def test_gap_bucket_is_one_more_bit_a_doubling(seconds: float, bucket: int) -> None:
    assert gap_bucket(np.array([seconds]))[0] == bucket


@given(st.lists(st.floats(min_value=0, max_value=1e12), min_size=1))
def test_gap_buckets_grow_with_the_gap_and_fit_their_embedding(seconds: list[float]) -> None:
    buckets = gap_bucket(np.sort(seconds))
    assert (np.diff(buckets) >= 0).all()
    assert buckets.max() < NUM_GAP_BUCKETS


def test_every_feature_has_a_size() -> None:
    sizes = Sizes(num_items=12, num_categories=5, num_price_buckets=7)
    assert {name: sizes.of(name) for name in FEATURES} == {
        "item": 12, "event": 15, "gap": 28, "opens_session": 3, "price": 7, "category": 5, "hour": 25, "weekday": 8,
    }  # fmt: skip


def test_map_reaches_every_array() -> None:
    one = np.ones(2)
    batch = Batch(features={"item": one, "event": one}, length=one, fresh=one, recency=one, labels={"returns": one})
    doubled = batch.map(lambda array: array * 2)
    arrays = [*doubled.features.values(), doubled.length, doubled.fresh, doubled.recency, *doubled.labels.values()]
    assert [array.tolist() for array in arrays] == [[2, 2]] * 6


@given(bucket=st.integers(2, NUM_GAP_BUCKETS - 1), point=st.floats(0, 1, exclude_max=True))
def test_seconds_of_a_bucket_fall_into_it(bucket: int, point: float) -> None:
    assert gap_bucket(seconds_of(np.array([bucket]), np.array([point]))).tolist() == [bucket]
    assert seconds_of(np.array([1]), np.array([point])).tolist() == [0]
