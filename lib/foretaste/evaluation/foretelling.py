"""Forecasts judged: functions from Arrow batches to Arrow batches, run by Spark's executors.

`Foretell` gives a line for each row and forecaster; from these lines come the sums of `Forecast` and, series by series, of `stock`.
Sums are small: what goes to the driver is as large as metrics, knobs and resamples, whatever the number of series.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray

from foretaste.contract import Batch
from foretaste.evaluation.bootstrap import poisson_weights
from foretaste.evaluation.forecast import Forecast, ForecastRows
from foretaste.evaluation.judge import Scorer
from foretaste.evaluation.stock import KNOBS, levels, simulated
from foretaste.scoring.arrow import lists, to_batch

FORETOLD = (
    "series_hash bigint, moment bigint, scorer string, scale double, actual array<double>, foretold array<double>, levels array<double>"
)
FORECAST_SUMS = "scorer string, sums array<double>"
SERIES_HASH, MOMENT = "series_hash", "moment"


@dataclass(frozen=True, kw_only=True)
class Foretell:
    """Rows of `series` with SERIES_HASH and MOMENT → FORETOLD. review: days between two moments"""

    judge: Forecast
    model: str
    load_model: Callable[[], Scorer]
    baselines: Mapping[str, Scorer]
    review: int
    batch_size: int

    def __call__(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        torch.set_num_threads(1)  # Spark runs one worker a core
        scorers: Mapping[str, Scorer] = {}
        for rows in batches:
            scorers = scorers or {self.model: self.load_model(), **self.baselines} if rows.num_rows else scorers
            for start in range(0, rows.num_rows, self.batch_size):
                yield from self._lines(rows.slice(start, self.batch_size), scorers)

    def _lines(self, rows: pa.RecordBatch, scorers: Mapping[str, Scorer]) -> Iterator[pa.RecordBatch]:
        batch: Batch[torch.Tensor] = to_batch(rows, [self.judge.label]).map(torch.tensor)
        for name, scorer in scorers.items():
            with torch.inference_mode():
                paths = scorer.score(batch)  # (B, S, H)
            rows_of = self.judge.measure(paths, batch)
            columns = {
                SERIES_HASH: rows.column(SERIES_HASH),
                MOMENT: rows.column(MOMENT),
                "scorer": pa.repeat(name, rows.num_rows),
                "scale": pa.array(rows_of.scale),
                "actual": lists(rows_of.actual),
                "foretold": lists(rows_of.foretold.reshape(len(rows_of.scale), -1)),
                "levels": lists(levels(paths[:, :, : self.review].double().numpy())),
            }
            yield pa.RecordBatch.from_pydict(columns)


@dataclass(frozen=True, kw_only=True)
class ForecastSums:
    """FORETOLD → FORECAST_SUMS of `Forecast`, and of each scorer's stock: (served, held: K lines each, demand: one), resamples by the row.

    Lines of a series come one after the other, by scorer and then by time.
    """

    judge: Forecast
    review: int
    replicates: int
    seed: int

    def of_metrics(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        sums: dict[str, NDArray[np.float64]] = {}
        for lines in batches:
            for name in lines.column("scorer").unique().to_pylist():
                part = lines.filter(pc.equal(lines.column("scorer"), name))
                total = sums.setdefault(name, np.zeros((self.judge.num_sums, 1 + self.replicates)))
                actual = _matrix(part, "actual")
                foretold = _matrix(part, "foretold").reshape(*actual.shape, len(self.judge.levels))
                rows = ForecastRows(levels=self.judge.levels, actual=actual, foretold=foretold, scale=part.column("scale").to_numpy())
                rows.add(total, self._weights(part.column(SERIES_HASH).to_numpy()))
        yield from _summed(sums)

    def of_stock(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        sums: dict[str, NDArray[np.float64]] = {}
        for key, filled, asked in self._series(batches):
            total = sums.setdefault(key[1], np.zeros((2 * len(KNOBS) + 1, 1 + self.replicates)))
            served, held = simulated(filled, asked)
            total += np.concatenate([served, held, [asked.sum()]])[:, None] * self._weights(np.array([key[0]]))
        yield from _summed(sums)

    def _series(self, batches: Iterable[pa.RecordBatch]) -> Iterator[tuple[tuple[int, str], NDArray[np.float64], NDArray[np.float64]]]:
        """Of each series and scorer its key, (W, K) levels and (W, review) demand: held as long as it goes on."""
        open_key: tuple[int, str] | None = None
        held: list[tuple[NDArray[np.float64], NDArray[np.float64]]] = []
        for lines in batches:
            keys = list(zip(lines.column(SERIES_HASH).to_pylist(), lines.column("scorer").to_pylist(), strict=True))
            filled, asked = _matrix(lines, "levels"), _matrix(lines, "actual")[:, : self.review]
            for place, key in enumerate(keys):
                if key != open_key and open_key is not None:
                    yield open_key, *(np.stack(part) for part in zip(*held, strict=True))
                    held = []
                open_key = key
                held.append((filled[place], asked[place]))
        if open_key is not None:
            yield open_key, *(np.stack(part) for part in zip(*held, strict=True))

    def _weights(self, series: NDArray[np.int64]) -> NDArray[np.float64]:
        return poisson_weights(series, self.replicates, self.seed)


def _summed(sums: Mapping[str, NDArray[np.float64]]) -> Iterator[pa.RecordBatch]:
    for name, total in sums.items():
        yield pa.RecordBatch.from_pydict({"scorer": pa.array([name]), "sums": lists(total.reshape(1, -1))})


def _matrix(lines: pa.RecordBatch, name: str) -> NDArray[np.float64]:
    """(n, width) of lists that are all as long."""
    column = lines.column(name)
    flat: NDArray[np.float64] = column.flatten().to_numpy(zero_copy_only=False)
    return flat.reshape(len(column), len(flat) // max(1, len(column)))
