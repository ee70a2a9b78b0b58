"""A stored model as MLflow's `pyfunc`, for those who serve models that way. It answers as jobs/score.py does, since the same UDF answers.

MLflow calls `_load_pyfunc` by this module's name: nothing is pickled. Rows in, as pandas holds them: the columns of `sequences` that the
model reads (the signature names them). Out, a row for each: target_id and score, lists, best first, and fallback. It is for a process on
its own, or `mlflow.pyfunc.spark_udf`; all users at once are faster by jobs/score.py, which makes no Python object of a number.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from foretaste import registry
from foretaste.scoring.udf import Fallback, ScoreUsers
from foretaste.stored_model import StoredModel

_TOP_K = 20
_BATCH_SIZE = 1024


def _load_pyfunc(path: str, model_config: Mapping[str, Any] | None = None) -> "Users":
    """The one model under `path`/models, as registry.py lays it there. model_config: top_k"""
    [folder] = Path(path).glob("models/*/[0-9]*")
    stored = registry.load(path, folder.parent.name, int(folder.name))
    return Users(path, stored, int((model_config or {}).get("top_k", _TOP_K)))


class Users:
    """What MLflow calls."""

    def __init__(self, root: str, stored: StoredModel, top_k: int) -> None:
        self._columns = list(stored.columns)
        self._score = ScoreUsers(
            root=root,
            name=stored.name,
            version=stored.version,
            batch_size=_BATCH_SIZE,
            top_k=top_k,
            fallback=Fallback.of(stored, top_k),
        )

    def predict(self, rows: pd.DataFrame) -> pd.DataFrame:
        """target_id, score, fallback of each row, in the same order."""
        read = pa.RecordBatch.from_pandas(rows[self._columns], preserve_index=False)
        batch = pa.RecordBatch.from_arrays([pa.nulls(len(rows), pa.string()), *read.columns], names=["user_id", *read.schema.names])
        answers = [answer.to_pylist() for answer in self._score([batch])]
        flat = [each for answer in answers for each in answer]
        return pd.DataFrame(
            {
                "target_id": [[target["target_id"] for target in each["targets"]] for each in flat],
                "score": [[target["score"] for target in each["targets"]] for each in flat],
                "fallback": [each["fallback"] for each in flat],
            }
        )
