"""Arrow to numpy and back, whole columns at a time."""

import numpy as np
import pyarrow as pa
import pytest

from foretaste.errors import TableError
from foretaste.scoring.arrow import TARGETS, targets, to_batch
from tests.scoring.stored import batch, record_batch

ROWS = record_batch(batch([[0, 2, 3], [4, 5, 6], [0, 0, 2]]), ["u1", "u2", "u3"])


def test_lists_become_a_matrix_and_columns_that_are_no_feature_stay_behind() -> None:
    found = to_batch(ROWS)
    assert found.item.tolist() == [[0, 2, 3], [4, 5, 6], [0, 0, 2]]
    assert found.item.dtype == np.int32
    assert found.length.tolist() == [2, 3, 1]
    assert set(found.features) == {"item", "event"}


def test_a_slice_gives_its_own_rows() -> None:
    found = to_batch(ROWS.slice(1, 2))
    assert found.item.tolist() == [[4, 5, 6], [0, 0, 2]]
    assert found.length.tolist() == [3, 1]


def test_no_row_is_no_error() -> None:
    assert to_batch(ROWS.slice(0, 0)).item.shape[0] == 0


@pytest.mark.parametrize("lists", [[[1, 2], [3, 4, 5]], [[1, 2, 3], [4]], [[1], [2, 3, 4]], [[1, 2], None], [[1, 2], [3, None]]])
def test_uneven_lists_and_nulls_are_refused_and_never_shifted(lists: list) -> None:
    scalars = {name: pa.array([1, 1], pa.int32()) for name in ("length", "fresh", "recency")}
    rows = pa.RecordBatch.from_pydict({**scalars, "item": pa.array(lists, pa.list_(pa.int32()))})
    with pytest.raises(TableError, match="item"):
        to_batch(rows)


def test_targets_are_the_shops_ids_with_their_scores() -> None:
    ids = pa.array([None, None, "milk", "bread"])
    made = targets(ids, np.array([[3, 2], [2, 3]]), np.array([[0.6, 0.4], [0.9, 0.1]]))
    assert made.type == TARGETS
    assert made.to_pylist() == [
        [{"target_id": "bread", "score": 0.6, "reasons": []}, {"target_id": "milk", "score": 0.4, "reasons": []}],
        [{"target_id": "milk", "score": 0.9, "reasons": []}, {"target_id": "bread", "score": 0.1, "reasons": []}],
    ]


def test_targets_of_nobody_are_an_empty_column() -> None:
    assert len(targets(pa.array(["milk"]), np.zeros((0, 1), dtype=np.int64), np.zeros((0, 1)))) == 0
