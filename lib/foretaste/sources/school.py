"""school: a log of an online school that nobody ever went to, made up here, to show that nothing in Foretaste is about shops.

A learner has a subject and a pace, starts its courses one after the other and finishes each, now and then goes over to another subject, and
after any course may leave for good. The same log every time, whatever the partitions: each learner's random numbers come from the number.
"""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from foretaste.settings import SourceSettings
from foretaste.sources.records import ITEM_FIELDS, raw_records

CAVEAT = "the school's log is made up: nobody ever went there"

NUM_LEARNERS = 1500
DAYS = 180
FIRST_DAY = datetime(2024, 1, 1, tzinfo=UTC)
SUBJECTS = ("mathematics", "history", "physics", "French", "drawing", "logic", "chemistry", "music")
NUM_COURSES = 12  # a subject
_STAYS_WITH_SUBJECT, _LEAVES = 0.9, 0.08  # after a course
_LOG = "learner string, course string, action string, seconds bigint"


def events(spark: SparkSession, settings: SourceSettings) -> DataFrame:
    rows = spark.range(NUM_LEARNERS).mapInPandas(_learn, _LOG)
    fields = {
        "user_id": F.col("learner"),
        "item_id": F.col("course"),
        "event_type": F.col("action"),
        "category": F.substring_index("course", " ", 1),
    }
    return raw_records(rows, fields, event_time=F.timestamp_seconds("seconds"), source_file=F.lit("school"), record=F.struct(*rows.columns))


def items(spark: SparkSession, settings: SourceSettings) -> DataFrame | None:
    """ITEM_FIELDS of the courses."""
    courses = [(_course(subject, level), subject) for subject in SUBJECTS for level in range(NUM_COURSES)]
    rows = spark.createDataFrame(courses, "item_id string, category string").withColumn("name", F.col("item_id"))
    return rows.select(*[(F.col(name) if name in rows.columns else F.lit(None)).cast("string").alias(name) for name in ITEM_FIELDS])


def campaigns(spark: SparkSession, settings: SourceSettings) -> DataFrame | None:
    return None


def promotions(spark: SparkSession, settings: SourceSettings) -> DataFrame | None:
    return None


def has_own_ids(settings: SourceSettings) -> bool:
    return False


def _course(subject: str, level: int) -> str:
    return f"{subject} {level + 1}"


def _learn(batches: Iterable[pd.DataFrame]) -> Iterator[pd.DataFrame]:
    for learners in batches:
        log = [row for number in learners["id"] for row in _log_of(int(number))]
        yield pd.DataFrame(log, columns=["learner", "course", "action", "seconds"])


def _log_of(number: int) -> Iterator[tuple[str, str, str, int]]:
    """All that one learner did: start, finish, start, …"""
    random = np.random.default_rng([2024, number])
    levels = dict.fromkeys(range(len(SUBJECTS)), 0)
    subject = int(random.zipf(1.6) - 1) % len(SUBJECTS)
    day, pace = random.uniform(0, DAYS * 0.8), random.uniform(2, 8)
    while day < DAYS and levels[subject] < NUM_COURSES:
        course = _course(SUBJECTS[subject], levels[subject])
        for action, moment in (("start", day), ("finish", day + pace * random.uniform(0.5, 1.0))):
            if moment < DAYS:
                yield f"learner {number}", course, action, int((FIRST_DAY + timedelta(days=moment)).timestamp())
        levels[subject] += 1
        if random.random() < _LEAVES:
            return
        if random.random() > _STAYS_WITH_SUBJECT:
            subject = int(random.integers(len(SUBJECTS)))
        day += pace * random.uniform(1.0, 1.6)
