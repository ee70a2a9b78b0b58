"""VS-kNN and STAN against a plain reading of their papers, one session at a time."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch

from foretaste.counting.memory import memory
from foretaste.models.neighbours import ROWS_AT_ONCE, largest
from tests.models.counted import NUM_ITEMS, A, B, C, D, E, model, ranking, rows

SESSIONS = [[A, B, C], [A, D], [B, C, E], [B, B, D], [C, E, A, B]]  # oldest first
AGES = [4.0, 3.0, 2.0, 1.0, 0.0]


def remembered(sessions: list[list[int]], ages: list[float], sample: int = 5000) -> dict[str, list[float]]:
    width = max(map(len, sessions))
    item = np.array([[0] * (width - len(session)) + session for session in sessions])
    return {name: table.tolist() for name, table in memory(item, np.array(ages), num_items=NUM_ITEMS, sample=sample).items()}


def plain(
    row: list[int],
    sessions: list[list[int]],
    k: int,
    sample: int,
    *,
    weight: Callable[[int], float],
    age: Callable[[int], float],
    worth: Callable[[int, int], float],
) -> list[float]:
    """The evidence for each item. worth: of (events after the latest shared one, places from it in the session)."""
    back = {item: len(row) - 1 - place for place, item in enumerate(row)}
    sharing = [number for number, session in enumerate(sessions) if set(session) & set(row)][-sample:]
    alike = {
        number: sum(weight(back[item]) for item in set(sessions[number]) & set(row)) * age(number) / math.sqrt(len(set(sessions[number])))
        for number in sharing
    }
    evidence = [0.0] * NUM_ITEMS
    for number in sorted(sharing, key=lambda number: (-round(alike[number], 12), -number))[:k]:
        place = {item: place for place, item in enumerate(sessions[number])}
        shared = min(set(sessions[number]) & set(row), key=lambda item: back[item])
        for item in place:
            idf = math.log(1 + len(sessions) / sum(item in session for session in sessions))
            evidence[item] += alike[number] * idf * worth(back[shared], abs(place[item] - place[shared]))
    return evidence


def vsknn(row: list[int], sessions: list[list[int]], k: int, sample: int) -> list[float]:
    return plain(
        row, sessions, k, sample, weight=lambda back: 1 / (back + 1), age=lambda number: 1.0, worth=lambda back, _: 1 / (back + 1) ** 2
    )


def stan(row: list[int], sessions: list[list[int]], k: int, sample: int, ages: list[float]) -> list[float]:
    return plain(
        row,
        sessions,
        k,
        sample,
        weight=lambda back: math.exp(-back / 1.5),
        age=lambda number: math.exp(-ages[number] / 3),
        worth=lambda _, places: math.exp(-places / 2),
    )


def random_sessions(number: int) -> list[list[int]]:
    random = np.random.default_rng(0)
    return [random.integers(2, NUM_ITEMS, random.integers(1, 6)).tolist() for _ in range(number)]


@pytest.mark.parametrize(("k", "sample"), [(500, 5000), (2, 5000), (2, 3), (1, 1)])
def test_evidence_is_that_of_the_papers(k: int, sample: int) -> None:
    for sessions in (SESSIONS, random_sessions(40)):
        ages = [float(number) for number in range(len(sessions), 0, -1)]
        asked = [[A], [B, A], [E, E, C], [D, 1, B], [1, 1], *random_sessions(ROWS_AT_ONCE)]  # more than one part
        tables = remembered(sessions, ages, sample)
        options = {"k": k, "sample": sample, "stan_history": 1.5, "stan_recency": 3.0, "stan_place": 2.0}
        by_sequence = model("vsknn", tables, **options).evidence(rows(*asked))
        assert torch.allclose(by_sequence, torch.tensor([vsknn(row, sessions, k, sample) for row in asked]), atol=1e-5)
        by_time = model("stan", tables, **options).evidence(rows(*asked))
        assert torch.allclose(by_time, torch.tensor([stan(row, sessions, k, sample, ages) for row in asked]), atol=1e-5)


def test_a_row_without_a_known_item_gets_the_popular_ones() -> None:
    scores = model("vsknn", remembered(SESSIONS, AGES)).score(rows([1, 1], [0, 1]))
    assert ranking(scores) == [[A, B, C, D, E]] * 2


def test_an_empty_memory_is_popularity() -> None:
    nothing = memory(np.zeros((0, 1), dtype=np.int32), np.zeros(0), num_items=NUM_ITEMS, sample=10)
    scores = model("stan", {name: table.tolist() for name, table in nothing.items()}).score(rows([A]))
    assert ranking(scores) == [[A, B, C, D, E]]


def test_largest_of_each_row() -> None:
    value = torch.tensor([3.0, 1.0, 2.0, 5.0, 4.0, 9.0])
    assert sorted(largest(value, torch.tensor([0, 0, 0, 2, 2, 3]), num_rows=5, k=2).tolist()) == [0, 2, 3, 4, 5]
    assert largest(value[:0], torch.zeros(0, dtype=torch.int64), num_rows=3, k=2).tolist() == []
