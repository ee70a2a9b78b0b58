"""What is counted for counted models, on rows that a reader can count by hand."""

import math
from datetime import timedelta

import numpy as np
import pytest
from pyspark.sql import SparkSession

from foretaste.contract import gap_bucket
from foretaste.counting import count, learnt_from
from foretaste.counting.lists import Tables
from foretaste.counting.memory import memory, recent_sessions
from foretaste.counting.pairs import companions, successors
from foretaste.counting.popularity import item_counts
from foretaste.settings import CountedSettings
from tests.counting.rows import NUM_ITEMS, A, B, C, D, E, Row, frame

# u1's window of four was followed by one that holds its last three events and two new ones.
ROWS = [
    Row("u1", [A, B, 1, C], hours=48),
    Row("u1", [B, 1, C, D, A], fresh=2, hours=24),
    Row("u2", [A, B], hours=12),
    Row("u3", [C, C, A], hours=1),
]


def listed(tables: Tables) -> dict[tuple[int, int], float]:
    """(item, neighbour) → weight."""
    offset = tables["offset"]
    assert len(offset) == NUM_ITEMS + 1
    owner = np.repeat(np.arange(NUM_ITEMS), np.diff(offset))
    return {
        (int(item), int(other)): float(weight) for item, other, weight in zip(owner, tables["neighbour"], tables["weight"], strict=True)
    }


def test_markov_counts_what_came_right_after_each_once(spark: SparkSession) -> None:
    found = listed(successors(frame(spark, ROWS), NUM_ITEMS, steps=1, keep=10))
    assert found == {(A, B): 2, (C, D): 1, (D, A): 1, (C, C): 1, (C, A): 1}  # an unknown event lies between B and C


def test_rules_weigh_by_one_over_the_distance(spark: SparkSession) -> None:
    found = listed(successors(frame(spark, ROWS), NUM_ITEMS, steps=3, keep=10))
    expected = {
        (A, B): 1 + 1,
        (A, C): 1 / 3,
        (B, C): 1 / 2,
        (B, D): 1 / 3,  # the first event lies in the earlier window
        (C, D): 1,
        (C, A): 1 / 2 + 1,  # u3's first C is hidden behind its second
        (D, A): 1,
        (C, C): 1,
    }
    assert found == pytest.approx(expected)


def test_an_item_keeps_its_strongest_neighbours(spark: SparkSession) -> None:
    found = listed(successors(frame(spark, ROWS), NUM_ITEMS, steps=3, keep=1))
    assert set(found) == {(A, B), (B, C), (C, A), (D, A)}


def test_companions_are_the_cosine_of_rows(spark: SparkSession) -> None:
    found = listed(companions(frame(spark, ROWS), NUM_ITEMS, keep=10))
    rows_with = {A: 4, B: 2, C: 2, D: 1}  # as fresh events
    rows_with_both = {(A, B): 3, (A, C): 3, (B, C): 1, (B, D): 1, (C, D): 1, (A, D): 1}
    expected = {pair: number / math.sqrt(rows_with[pair[0]] * rows_with[pair[1]]) for pair, number in rows_with_both.items()}
    assert found == pytest.approx(expected | {(other, item): cosine for (item, other), cosine in expected.items()})


def test_popularity_counts_fresh_events_and_recent_ones_apart(spark: SparkSession) -> None:
    day = int(gap_bucket(np.array([86400.0]))[0])
    rows = [*ROWS, Row("u4", [E, E], hours=0, gap=[1, day])]  # the first E lies at least half a day before the second
    found = item_counts(frame(spark, rows), NUM_ITEMS, timedelta(hours=12))
    assert found["popularity"].tolist() == [0, 0, 4, 2, 3, 1, 2]
    assert found["recent"].tolist() == [0, 0, 1, 1, 2, 0, 1]  # u2's A was a second too early
    assert item_counts(frame(spark, rows), NUM_ITEMS, timedelta(hours=30))["recent"].tolist() == [0, 0, 3, 1, 2, 1, 2]


def sessions_of(tables: Tables) -> list[list[int]]:
    return [part.tolist() for part in np.split(tables["session_item"], tables["session_offset"][1:-1])]


def test_the_memory_holds_the_newest_histories_each_once(spark: SparkSession) -> None:
    found = recent_sessions(frame(spark, ROWS), NUM_ITEMS, max_sessions=10, sample=10)
    # u1's second window lacks the first event of its first one, so both stay.
    assert sessions_of(found) == [[A, B, C], [A, B, C, D], [A, B], [A, C]]
    assert found["age"].tolist() == pytest.approx([47 / 24, 23 / 24, 11 / 24, 0])
    assert sessions_of(recent_sessions(frame(spark, ROWS), NUM_ITEMS, max_sessions=2, sample=10)) == [[A, B], [A, C]]


def test_a_window_that_the_next_one_holds_is_no_session_of_its_own(spark: SparkSession) -> None:
    grown = [Row("u1", [A, B], hours=3), Row("u1", [A, B, C], fresh=1, hours=2), Row("u1", [D], hours=1)]  # then another session of u1
    assert sessions_of(recent_sessions(frame(spark, grown), NUM_ITEMS, max_sessions=10, sample=10)) == [[A, B, C], [D]]


def test_memory_by_hand() -> None:
    found = memory(np.array([[0, A, 1, A], [B, A, C, B]]), np.array([1.0, 0.0]), num_items=NUM_ITEMS, sample=1)
    assert sessions_of(found) == [[A], [A, B, C]]
    assert found["session_place"].tolist() == [2, 1, 3, 2]  # of A the last place, counted from the session's first event
    assert found["item_offset"].tolist() == [0, 0, 0, 1, 2, 3, 3, 3]
    assert found["item_session"].tolist() == [1, 1, 1]  # of A's two sessions the newer
    assert found["item_place"].tolist() == [1, 3, 2]
    assert found["item_frequency"].tolist() == [0, 0, 2, 1, 1, 0, 0]


def test_only_windows_of_the_time_to_learn_from_count(spark: SparkSession) -> None:
    others = [Row("v", [E, E], split="valid"), Row("t", [E, E], split="test"), Row("c", [E, E], cut="calendar")]
    rows = frame(spark, [*ROWS, *others])
    assert {row.user_id for row in learnt_from(rows, refit=False).collect()} == {"u1", "u2", "u3"}
    assert {row.user_id for row in learnt_from(rows, refit=True).collect()} == {"u1", "u2", "u3", "v"}


def test_every_model_gets_its_tables(spark: SparkSession) -> None:
    found = count(["popularity", "recent_popularity", "markov", "vsknn", "stan"], frame(spark, ROWS), NUM_ITEMS, CountedSettings())
    assert {name: set(tables) for name, tables in found.items()} == {
        "popularity": {"popularity"},
        "recent_popularity": {"popularity", "recent"},
        "markov": {"popularity", "offset", "neighbour", "weight"},
        "vsknn": set(found["stan"]),
        "stan": {"popularity", "age", *(f"session_{name}" for name in ("offset", "item", "place"))}
        | {f"item_{name}" for name in ("offset", "session", "place", "frequency")},
    }
    assert found["vsknn"]["age"] is found["stan"]["age"]  # counted once
