"""How many ranks a Spark application can run at once: too many would wait for each other for ever."""

import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from foretaste.errors import TrainingError

if TYPE_CHECKING:  # ranks need no Spark
    from pyspark.sql import SparkSession

WAIT_S = 20.0  # executors may still be on their way


def check_slots(workers: int, slots: Callable[[], int | None]) -> None:
    """TrainingError where Spark has fewer task slots than ranks, and gets no more within WAIT_S."""
    deadline = time.monotonic() + WAIT_S
    while (free := slots()) is not None and free < workers:
        if time.monotonic() > deadline:
            raise TrainingError(
                f"{workers} ranks need {workers} task slots at once, and Spark has {free}",
                where="training.workers",
                fix=f"Lower it to {free}, or give Spark more cores (spark.master local[{workers}], or more executors).",
            )
        time.sleep(0.5)


def slots_left(workers: int, slots: Callable[[], int | None], wait_s: float = WAIT_S) -> int | None:
    """How many ranks Spark has room for, where that is fewer than `workers` and stays so for `wait_s`; None where all have, or none has."""
    deadline = time.monotonic() + wait_s
    while (free := slots()) is not None and free < workers:
        if time.monotonic() > deadline:
            return free or None
        time.sleep(0.5)
    return None


def task_slots(spark: "SparkSession") -> int | None:
    """Tasks that Spark can run at once; None where executors come and go."""
    if setting(spark, "spark.dynamicAllocation.enabled", "false") == "true":
        return None
    return _slots_of_executors(spark, only_living=True)


def has_lost_slots(spark: "SparkSession") -> bool:
    """Whether an executor of this application died."""
    return _slots_of_executors(spark, only_living=False) > _slots_of_executors(spark, only_living=True)


def _slots_of_executors(spark: "SparkSession", only_living: bool) -> int:
    executors = spark.sparkContext._jsc.sc().statusStore().executorList(only_living)
    return sum(int(executors.apply(index).maxTasks()) for index in range(executors.size()))


def threads_of(spark: "SparkSession", workers: int) -> int:
    """CPU threads for each rank: an even part of this machine in a local session, else what Spark gives to a task."""
    if (spark.sparkContext.master or "").startswith("local"):
        return max(1, num_cores() // workers)
    return int(setting(spark, "spark.task.cpus", "1"))


def num_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def setting(spark: "SparkSession", key: str, otherwise: str) -> str:
    return spark.sparkContext.getConf().get(key, otherwise) or otherwise
