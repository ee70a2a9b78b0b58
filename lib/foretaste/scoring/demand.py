"""The Spark UDF of a model of counts: Arrow batches of series in, a row a series and day out. No Spark import here."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from foretaste.scoring.arrow import to_batch
from foretaste.scoring.udf import ByModel

_LEVELS = "array<struct<level: double, units: double>>"
DEMAND_OF_DAYS = f"series_id string, day date, mean double, quantiles {_LEVELS}, cumulative {_LEVELS}"


@dataclass(frozen=True, kw_only=True)
class DemandOfDays(ByModel):
    """`rows.mapInArrow(DemandOfDays(…), DEMAND_OF_DAYS)`: rows as `series.latest` gives them, all of one moment.

    first_day: since 1970, the first one that is foretold
    """

    quantiles: Sequence[float]
    first_day: int

    def __call__(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for rows in batches:
            if rows.num_rows:  # an empty partition needs no model
                scorer = self.scorer
                for start in range(0, rows.num_rows, self.batch_size):
                    part = rows.slice(start, self.batch_size)
                    yield self._days(part.column("series_id"), scorer.paths(to_batch(part)))

    def _days(self, names: pa.Array, paths: NDArray[np.float64]) -> pa.RecordBatch:
        """A row for each of n series and H days, from (n, S, H) paths."""
        rows, _, horizon = paths.shape
        day = np.tile(self.first_day + np.arange(horizon), rows)
        columns = {
            "series_id": names.take(pa.array(np.repeat(np.arange(rows), horizon))),
            "day": pa.array(day, pa.int32()).cast(pa.date32()),
            "mean": pa.array(paths.mean(1).ravel()),
            "quantiles": self._quantiles(paths),
            "cumulative": self._quantiles(paths.cumsum(2)),
        }
        return pa.RecordBatch.from_pydict(columns)

    def _quantiles(self, paths: NDArray[np.float64]) -> pa.ListArray:
        units = np.quantile(paths, self.quantiles, axis=1).transpose(1, 2, 0)  # (n, H, Q)
        level = np.broadcast_to(self.quantiles, units.shape)
        structs = pa.StructArray.from_arrays([pa.array(level.ravel()), pa.array(units.ravel())], names=["level", "units"])
        ends = np.arange(0, units.size + 1, units.shape[2], dtype=np.int32)
        return pa.ListArray.from_arrays(pa.array(ends), structs)
