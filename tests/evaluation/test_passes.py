"""Sums over partitions: the same metrics however the rows are spread."""

import dataclasses

import numpy as np
import pyarrow as pa
import pytest
import torch

from foretaste.contract import Batch
from foretaste.evaluation.baselines import rfm
from foretaste.evaluation.classification import Binary
from foretaste.evaluation.judge import Judge
from foretaste.evaluation.passes import NUM_JUDGED, NUM_LEFT_OUT, Pass, rows_to_fit
from foretaste.evaluation.ranking import Ranking
from foretaste.evaluation.segments import ALL, IS_RETURNING, SEGMENTS

NUM_ITEMS = 8


class LastItem:
    """Expects the last item again."""

    def score(self, batch: Batch[torch.Tensor]) -> torch.Tensor:
        scores = torch.zeros((len(batch.length), NUM_ITEMS)).scatter(1, batch.item[:, -1:].long(), 1.0)
        scores[:, :2] = -torch.inf
        return scores + torch.linspace(0, 0.1, NUM_ITEMS)


class Popularity:
    """The items in the order of their numbers, the last one first."""

    def score(self, batch: Batch[torch.Tensor]) -> torch.Tensor:
        scores = torch.arange(NUM_ITEMS).float().repeat(len(batch.length), 1)
        scores[:, :2] = -torch.inf
        return scores


class Recency:
    """A logit that falls with the time since the last event."""

    def score(self, batch: Batch[torch.Tensor]) -> torch.Tensor:
        return 10.0 - batch.recency.double()


def rows(count: int, seed: int = 0) -> pa.RecordBatch:
    random = np.random.default_rng(seed)
    item = random.integers(2, NUM_ITEMS, (count, 3))
    target = np.where(random.random(count) < 0.5, item[:, -1], random.integers(2, NUM_ITEMS, count))
    target[::10] = 0  # nothing known followed
    scalars = {name: pa.array(random.integers(1, 30, count), pa.int32()) for name in ("length", "fresh", "recency")}
    lists = {"item": item, "next_items": np.stack([target, np.zeros_like(target)], axis=1), "opens_session": item * 0 + 2, "price": item}
    return pa.RecordBatch.from_pydict(
        {
            "split": pa.array(np.where(random.random(count) < 0.3, "valid", "test")),
            "user_hash": pa.array(random.integers(0, 40, count)),
            **scalars,
            **{name: pa.array(list(values), pa.list_(pa.int32())) for name, values in lists.items()},
            "returns": pa.array(random.integers(0, 2, count), pa.int32()),
            IS_RETURNING: pa.array(random.random(count) < 0.7),
        }
    )


RANKING = Pass(
    judge=Ranking(label="next_items", at=[1, 3]),
    label="next_items",
    model="last_item",
    load_model=LastItem,
    baselines={"popularity": Popularity()},
    replicates=20,
    seed=0,
    batch_size=7,
    num_items=NUM_ITEMS,
)
BINARY = Pass(judge=Binary(label="returns"), label="returns", model="recency", load_model=Recency, replicates=20, seed=0, batch_size=7)
Found = dict[tuple[str, str, str], list[float]]


def run(judging: Pass, partitions: list[list[pa.RecordBatch]], segment: str = ALL) -> Found:
    sums = [part for batches in partitions for part in judging.partial_sums(iter(batches))]
    merged = [row for part in judging.merged(sums) for row in part.to_pylist()]
    return {(row["split"], row["scorer"], row["metric"]): row["resampled"] for row in merged if row["segment"] == segment}


@pytest.mark.parametrize("judging", [RANKING, BINARY], ids=["ranking", "binary"])
def test_partitions_and_batches_change_nothing(judging: Pass) -> None:
    whole = rows(100)
    together = run(dataclasses.replace(judging, batch_size=1000), [[whole]])
    spread = run(judging, [[whole.slice(0, 33), whole.slice(33, 1)], [whole.slice(34, 66)], []])
    assert together.keys() == spread.keys()
    for key, values in together.items():
        assert spread[key] == pytest.approx(values, nan_ok=True), key


def test_rows_are_counted_apart_by_split_and_by_whether_they_can_be_judged() -> None:
    found, given = run(RANKING, [[rows(100)]]), rows(100)
    splits = given.column("split").to_pylist()
    unknown = [targets[0] == 0 for targets in given.column("next_items").to_pylist()]
    for split in ("valid", "test"):
        expected = [flag for flag, of in zip(unknown, splits, strict=True) if of == split]
        assert found[split, "last_item", NUM_LEFT_OUT][0] == sum(expected) > 0
        assert found[split, "last_item", NUM_JUDGED][0] == len(expected) - sum(expected)


def test_rows_without_a_target_are_not_scored() -> None:
    class Counting(LastItem):
        scored = 0

        def score(self, batch: Batch[torch.Tensor]) -> torch.Tensor:
            self.scored += len(batch.length)
            return super().score(batch)

    scorer, given = Counting(), rows(100)
    run(dataclasses.replace(RANKING, load_model=lambda: scorer), [[given]])
    assert scorer.scored == 90
    nobody = given.filter(pa.array([targets[0] == 0 for targets in given.column("next_items").to_pylist()]))
    found = run(dataclasses.replace(RANKING, load_model=lambda: scorer), [[nobody]])
    assert scorer.scored == 90
    assert sum(found[split, "last_item", NUM_LEFT_OUT][0] for split in ("valid", "test")) == 10


def test_a_metric_is_what_the_rows_say() -> None:
    given = rows(100)
    last, target = (np.array(given.column(name).to_pylist()) for name in ("item", "next_items"))
    judged = (target[:, 0] >= 2) & (np.array(given.column("split").to_pylist()) == "test")
    hits = last[judged, -1] == target[judged, 0]
    assert run(RANKING, [[given]])["test", "last_item", "recall@1"][0] == pytest.approx(hits.mean())


@pytest.mark.parametrize("segment", SEGMENTS)
def test_a_group_of_users_is_judged_as_if_it_were_alone(segment: str) -> None:
    given = rows(200)
    length, returning = given.column("length").to_numpy(), given.column(IS_RETURNING).to_numpy(zero_copy_only=False)
    belongs = {
        "history 1": length == 1,
        "history 2-4": (length >= 2) & (length <= 4),
        "history 5-19": (length >= 5) & (length <= 19),
        "history 20+": length >= 20,
        "new users": ~returning,
        "returning users": returning,
    }[segment]
    assert 0 < belongs.sum() < 200
    alone, among = run(RANKING, [[given.filter(pa.array(belongs))]]), run(RANKING, [[given]], segment)
    assert {key for key in alone if "coverage" not in key[2]} == among.keys()
    for key, values in among.items():
        assert alone[key] == pytest.approx(values, nan_ok=True), key


def test_coverage_is_what_anybody_anywhere_was_recommended() -> None:
    given = rows(100)
    found = run(RANKING, [[given.slice(0, 50)], [given.slice(50)]])
    last = np.array(given.column("item").to_pylist())[:, -1]
    judged = (np.array(given.column("split").to_pylist()) == "test") & (np.array(given.column("next_items").to_pylist())[:, 0] > 0)
    assert found["test", "last_item", "coverage@1"][0] == pytest.approx(len(set(last[judged])) / (NUM_ITEMS - 2))
    assert found["test", "popularity", "coverage@3"][0] == pytest.approx(3 / (NUM_ITEMS - 2))
    assert np.isnan(found["test", "popularity", "coverage@3"][1:]).all()  # nothing is known of its resamples


def test_model_and_baselines_meet_the_same_resamples() -> None:
    found = run(RANKING, [[rows(100)]])
    assert found["test", "last_item", NUM_JUDGED] == found["test", "popularity", NUM_JUDGED]
    assert len(set(found["test", "last_item", NUM_JUDGED])) > 5


def test_without_rows_nothing_is_loaded() -> None:
    def load() -> LastItem:
        raise AssertionError

    assert run(dataclasses.replace(RANKING, load_model=load), [[], [rows(0)]]) == {}


def test_rows_to_fit_carry_numbers_and_label() -> None:
    given = rows(4)
    (made,) = rows_to_fit([given], "returns", rfm)
    assert made.column("label").to_pylist() == given.column("returns").to_pylist()
    assert [values[0] for values in made.column("features").to_pylist()] == given.column("recency").to_pylist()


def test_judges_say_what_they_need() -> None:
    judges: list[Judge] = [RANKING.judge, BINARY.judge]
    for judge in judges:
        names = judge.metrics(np.ones((judge.num_sums, 1)))
        assert judge.headline in names
        assert {metric for metric in judge.shown if "coverage" not in metric} <= set(names)
        assert judge.lower_is_better <= set(names)
