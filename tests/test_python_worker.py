"""What Spark's Python workers pass over between two tasks."""

import gc
from collections.abc import Iterable, Iterator

import pyarrow as pa
from pyspark.sql import SparkSession

from foretaste import python_worker


def seen(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """A row for each of the task's: the worker, how many objects garbage is not looked for in, and after that how many importers of a zip
    would look at it anew.
    """
    import gc
    import os
    import sys
    from zipimport import zipimporter

    import pandas  # noqa: F401 - of many objects
    import pyarrow as pa

    import foretaste  # noqa: F401 - as all that Foretaste hands to a worker does

    frozen = gc.get_freeze_count()
    gc.collect()
    zips = sum(isinstance(finder, zipimporter) for finder in sys.path_importer_cache.values())
    for _ in batches:
        yield pa.RecordBatch.from_pydict({"worker": [os.getpid()], "frozen": [frozen], "zips": [zips]})


def test_after_its_first_task_a_worker_passes_over_what_it_has_imported(spark: SparkSession) -> None:
    tasks = spark.range(1, numPartitions=1).mapInArrow(seen, "worker long, frozen long, zips long")
    by_worker: dict[int, list[tuple[int, int]]] = {}
    while not any(len(told) > 1 for told in by_worker.values()):  # there may be many, which take turns
        assert len(by_worker) < 50
        [row] = tasks.collect()
        by_worker.setdefault(row.worker, []).append((row.frozen, row.zips))
    [(frozen, zips)] = [told[1] for told in by_worker.values() if len(told) > 1]
    assert frozen > 50_000
    assert zips == 0


def test_what_the_driver_imports_is_looked_at_as_ever() -> None:
    assert not python_worker.is_one()
    assert python_worker._after not in gc.callbacks
