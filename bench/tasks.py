"""What Spark takes for tasks of Python that do nothing, once their workers have imported torch and pandas: with foretaste, and without.

python bench/tasks.py --rounds 3

Each side of each round is a process of its own, with a Spark of its own: two cores, two workers, and query after query of two tasks, which
hand on the rows that they get. Foretaste has its workers pass over what they have imported between two tasks (python_worker.py).
"""

import statistics
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated

import pyarrow as pa
import typer
from compared import console, in_turn, keep, ratio, tell

from foretaste.session import spark_session
from foretaste.settings import SparkSettings

SPARK, OURS = "Spark alone", "with foretaste"
ALONE = "--alone"


def plain(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    import pandas  # noqa: F401 - of many objects
    import torch  # noqa: F401 - of many more

    yield from batches


def ours(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    import foretaste  # noqa: F401 - as all that Foretaste hands to a worker does

    yield from plain(batches)


def measure(side: str, queries: int) -> None:
    """Prints the median seconds of a query."""
    spark = spark_session(SparkSettings(master="local[2]", driver_memory="1g", shuffle_partitions=2))
    rows = spark.range(1000, numPartitions=2).mapInArrow({SPARK: plain, OURS: ours}[side], "id bigint")
    seconds = []
    for _ in range(queries + 10):
        started = time.monotonic()
        rows.write.format("noop").mode("overwrite").save()
        seconds.append(time.monotonic() - started)
    print(statistics.median(seconds[10:]))


def main(
    queries: Annotated[int, typer.Option(help="of two tasks each, after ten that warm up")] = 40,
    rounds: Annotated[int, typer.Option(help="of both, in turn")] = 3,
    out: Annotated[Path | None, typer.Option(help="a JSON file for the figures")] = None,
) -> None:
    def seconds(side: str) -> float:
        ended = subprocess.run([sys.executable, __file__, ALONE, side, str(queries)], stdout=subprocess.PIPE, check=True)
        return 1000 * float(ended.stdout.split()[-1])

    taken = in_turn({side: lambda _, side=side: seconds(side) for side in (SPARK, OURS)}, rounds, "ms")
    tell(f"a query of two tasks that do nothing, median of {queries}", taken, "ms")
    middle, told = ratio(taken, OURS, SPARK)
    console.print(f"with foretaste a query takes {told} of the time")
    keep(out, "tasks", milliseconds=taken, ratio=middle)


if __name__ == "__main__":
    if sys.argv[1:2] == [ALONE]:
        measure(sys.argv[2], int(sys.argv[3]))
    else:
        typer.run(main)
