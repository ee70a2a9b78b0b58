"""school: a log of an online school that nobody ever went to, made up here, to show that nothing in Foretaste is about shops.

A learner has a subject and a pace, starts its courses one after the other and finishes each, now and then goes over to another subject, and
after any course may leave. Every twenty days each second learner, drawn at random, is mailed a reminder, and the others are left out to see
what it is worth: some of those who left lately come back because of it. It changes nothing for those who are there, who would come anyway.
The same log every time, whatever the partitions: each learner's random numbers come from the number.
"""

from collections.abc import Iterable, Iterator, Mapping
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
REMINDED = (40, 60, 80, 100, 120, 140, 160)  # days
_COMES_BACK, _LATELY, _LONG_AGO = 0.4, 35, 0.02  # the chance after so many days, and after more
_DAYS_TO_COME = 9  # after a mail, at most
_LOG = "learner string, course string, action string, seconds bigint, campaign string"


def events(spark: SparkSession, settings: SourceSettings) -> DataFrame:
    rows = spark.range(NUM_LEARNERS).mapInPandas(_learn, _LOG)
    fields = {
        "user_id": F.col("learner"),
        "item_id": F.col("course"),
        "event_type": F.col("action"),
        "category": F.substring_index("course", " ", 1),
        "campaign_id": F.col("campaign"),
    }
    return raw_records(rows, fields, event_time=F.timestamp_seconds("seconds"), source_file=F.lit("school"), record=F.struct(*rows.columns))


def items(spark: SparkSession, settings: SourceSettings) -> DataFrame | None:
    """ITEM_FIELDS of the courses."""
    courses = [(_course(subject, level), subject) for subject in SUBJECTS for level in range(NUM_COURSES)]
    rows = spark.createDataFrame(courses, "item_id string, category string").withColumn("name", F.col("item_id"))
    return rows.select(*[(F.col(name) if name in rows.columns else F.lit(None)).cast("string").alias(name) for name in ITEM_FIELDS])


def campaigns(spark: SparkSession, settings: SourceSettings) -> DataFrame | None:
    """The reminders, which are about no item; the last one is yet to come when the log ends."""
    starts = {day: FIRST_DAY + timedelta(days=day) for day in (*REMINDED, DAYS)}
    rows = [(_reminder(day), "mail", at, at + timedelta(days=14)) for day, at in starts.items()]
    told = spark.createDataFrame(rows, "campaign_id string, kind string, starts_at timestamp, ends_at timestamp")
    return told.withColumn("item_id", F.lit(None).cast("string"))


def promotions(spark: SparkSession, settings: SourceSettings) -> DataFrame | None:
    return None


def types(spark: SparkSession, settings: SourceSettings) -> Mapping[str, str]:
    return {}


def has_own_ids(settings: SourceSettings) -> bool:
    return False


def _course(subject: str, level: int) -> str:
    return f"{subject} {level + 1}"


def _reminder(day: int) -> str:
    return f"reminder of day {day}"


def _learn(batches: Iterable[pd.DataFrame]) -> Iterator[pd.DataFrame]:
    for learners in batches:
        numbers = [int(number) for number in learners["id"]]
        log = [(*row, None) for number in numbers for row in _log_of(number)]
        mails = [row for number in numbers for row in _mails_of(number)]
        yield pd.DataFrame([*log, *mails], columns=["learner", "course", "action", "seconds", "campaign"])


def _log_of(number: int) -> Iterator[tuple[str, str, str, int]]:
    """All that one learner did: start, finish, start, …"""
    random = np.random.default_rng([2024, number])
    mailed = [day for day, reached in zip(REMINDED, _is_reached(number), strict=True) if reached]
    levels = dict.fromkeys(range(len(SUBJECTS)), 0)
    subject = int(random.zipf(1.6) - 1) % len(SUBJECTS)
    day, pace = random.uniform(0, DAYS * 0.8), random.uniform(2, 8)
    while day < DAYS and levels[subject] < NUM_COURSES:
        course = _course(SUBJECTS[subject], levels[subject])
        for action, moment in (("start", day), ("finish", day + pace * random.uniform(0.5, 1.0))):
            if moment < DAYS:
                yield f"learner {number}", course, action, _seconds(moment)
        levels[subject] += 1
        if random.random() < _LEAVES:
            left, back = day + pace, None
            for mail in mailed:
                if mail > left and back is None and random.random() < (_COMES_BACK if mail - left < _LATELY else _LONG_AGO):
                    back = mail + random.uniform(0.1, _DAYS_TO_COME)
            if back is None:
                return
            day = back
            continue
        if random.random() > _STAYS_WITH_SUBJECT:
            subject = int(random.integers(len(SUBJECTS)))
        day += pace * random.uniform(1.0, 1.6)


def _mails_of(number: int) -> Iterator[tuple[str, None, str, int, str]]:
    """Which reminders reached the learner, and which left the learner out, of those after the first course was started."""
    _, _, _, began = next(_log_of(number), (None, None, None, _seconds(DAYS)))
    for day, reached in zip(REMINDED, _is_reached(number), strict=True):
        if _seconds(day) > began:
            yield f"learner {number}", None, "exposure" if reached else "control", _seconds(day), _reminder(day)


def _is_reached(number: int) -> list[bool]:
    """Heads or tails for each reminder."""
    return [bool(side) for side in np.random.default_rng([2024, number, 1]).integers(2, size=len(REMINDED))]


def _seconds(day: float) -> int:
    return int((FIRST_DAY + timedelta(days=day)).timestamp())
