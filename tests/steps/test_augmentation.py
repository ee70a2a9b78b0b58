"""The gate: written rows join real ones only where validation gains by more than its interval, and both figures are told either way."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyspark.sql import SparkSession

from foretaste import registry
from foretaste.errors import FeedError
from foretaste.evaluation.bootstrap import Estimate
from foretaste.feed.snapshot import Pin, beside
from foretaste.settings import Settings, WarehouseSettings
from foretaste.steps import augmentation
from foretaste.steps.augmentation import Verdict, over_seeds, written_by
from foretaste.steps.synthesize import synthesize
from foretaste.steps.train import train
from foretaste.tables import Warehouse
from foretaste.tables.sequences import SEQUENCES
from foretaste.tables.vocabulary import VOCABULARY
from tests.steps.test_synthesize import GAN
from tests.steps.test_train import FIT, write_tables

INTEREST = {"model": {"name": "gru", "embedding": 8, "hidden": [8]}, "fit": FIT}


def of(**augment: Any) -> Settings:
    interest = {**INTEREST, "fit": {**FIT, "augment": augment}}
    return Settings.model_validate(
        {"tasks": {"interest": interest}, "training": {"threads": 1, "seed": 1}, "evaluation": {"bootstrap": 20}}
    )


@pytest.fixture(scope="module")
def warehouse(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Warehouse:
    """With twenty rows that a GAN wrote in files of one or two each."""
    made = Warehouse(spark, WarehouseSettings(path=str(tmp_path_factory.mktemp("warehouse"))))
    write_tables(made, num_files=8)
    writing = of().model_copy(update={"tasks": {}}).model_dump(exclude_unset=True)
    writing |= {"tasks": {"behaviour": {"model": GAN, "fit": FIT}}, "synthesis": {"rows": 20, "report": 0}}
    train(made, Settings.model_validate(writing))
    synthesize(made, Settings.model_validate(writing))
    return made


def test_rows_that_do_not_pass_leave_the_model_as_it_is_without_them(warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    train(warehouse, of())
    alone = registry.load(warehouse.path, "interest", 1)
    refused = Verdict(rows="v", metric="mrr", without=0.4, with_written=0.5, difference=Estimate(value=0.1, low=0.0, high=0.2))
    monkeypatch.setattr(augmentation, "compared", lambda *_: [refused])
    report = train(warehouse, of(gan=0.3))
    stored = registry.load(warehouse.path, "interest", 2)
    assert stored.sha256 == alone.sha256
    assert not stored.settings["augmentation"]["accepted"]
    line = next(note for note in report.notes if "real ones are" in note)
    assert "12 rows written by a gan beside 40 real ones are NOT accepted (1 seed); v: mrr 0.5000 with them, 0.4000 without" in line
    assert "difference +0.1000 [+0.0000, +0.2000]" in line


def test_rows_that_pass_are_learnt_from(warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    passed = Verdict(rows="v", metric="mrr", without=0.4, with_written=0.5, difference=Estimate(value=0.1, low=0.01, high=0.2))
    monkeypatch.setattr(augmentation, "compared", lambda *_: [passed])
    report = train(warehouse, of(gan=0.3, seeds=2))
    newest = registry.load(warehouse.path, "interest", registry.versions(warehouse.path, "interest")[-1])
    assert newest.settings["augmentation"]["accepted"]
    assert newest.settings["augmentation"]["seeds"] == [1, 2]
    assert newest.sha256 != registry.load(warehouse.path, "interest", 1).sha256
    assert newest.history[0]["steps"] == (40 + 12) // 10
    assert report.read == {"rows for interest": 40 + 12 + 20}


def test_both_are_judged_on_the_same_real_rows(warehouse: Warehouse) -> None:
    train(warehouse, of(gan=0.5, seeds=2))
    newest = registry.load(warehouse.path, "interest", registry.versions(warehouse.path, "interest")[-1])
    verdicts = newest.settings["augmentation"]["verdicts"]
    assert [verdict["rows"] for verdict in verdicts] == ["validation rows (20)"]  # every item has more than five events
    (verdict,) = verdicts
    value, low, high = verdict["difference"]
    assert value == pytest.approx(verdict["with"] - verdict["without"], abs=1e-9)
    assert low <= value <= high
    assert newest.settings["augmentation"]["accepted"] == (low > 0)


def test_rare_items_are_judged_apart(warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(augmentation, "RARE", 1000)  # all are
    train(warehouse, of(gan=0.3))
    newest = registry.load(warehouse.path, "interest", registry.versions(warehouse.path, "interest")[-1])
    rows = [verdict["rows"] for verdict in newest.settings["augmentation"]["verdicts"]]
    assert rows == ["validation rows (20)", "of these, next items with fewer than 1000 training events (20)"]


@pytest.mark.parametrize(
    ("augment", "what"),
    [
        ({"vae": 0.3}, "there are no rows written by a vae that learnt from sequences version"),
        ({"gan": 3.0}, "there are 20 rows, and 120 are asked for"),
    ],
)
def test_it_says_what_is_missing(warehouse: Warehouse, augment: dict[str, float], what: str) -> None:
    with pytest.raises(FeedError, match=what):
        train(warehouse, of(**augment))


def test_rows_of_another_warehouse_join_where_items_and_splits_are_the_same(
    warehouse: Warehouse, spark: SparkSession, tmp_path: Path
) -> None:
    """Somebody who may read a few of the histories, and what a model wrote that learnt from all."""
    few = Warehouse(spark, WarehouseSettings(path=str(tmp_path / "few")))
    few.overwrite(VOCABULARY, warehouse.read(VOCABULARY))
    built_from = {"vocabulary": few.version(VOCABULARY), "splits": {"valid_from": "2024-01-01"}}
    few.overwrite(SEQUENCES, warehouse.read(SEQUENCES).limit(20), built_from)
    real = Pin(table="sequences", version=few.version(SEQUENCES), split="train", cut="window", num_rows=9, files=())
    refused = r"no rows written by a gan that learnt from rows with the same vocabulary and splits \(synthetic_sequences of "
    with pytest.raises(FeedError, match=refused):
        written_by(few, "gan", real, warehouse.path)
    with pytest.raises(FeedError, match=r"there is no such warehouse \(fit\.augment\.of: "):
        written_by(few, "gan", real, str(tmp_path / "absent"))

    alike = {"vocabulary": few.version(VOCABULARY)}
    few.overwrite(SEQUENCES, warehouse.read(SEQUENCES).limit(20), alike)
    newest = replace(real, version=few.version(SEQUENCES))
    written = written_by(few, "gan", newest, warehouse.path)
    assert (written.num_rows, written.split) == (20, "synthetic behaviour 1")
    assert all(warehouse.path in url for url, _ in written.files)

    few.overwrite(VOCABULARY, warehouse.read(VOCABULARY).where("index < 7"))
    few.overwrite(SEQUENCES, warehouse.read(SEQUENCES).limit(20), {"vocabulary": few.version(VOCABULARY)})
    with pytest.raises(FeedError, match=refused):
        written_by(few, "gan", replace(real, version=few.version(SEQUENCES)), warehouse.path)


def test_whole_files_stand_beside_the_real_ones() -> None:
    real = Pin(table="sequences", version=3, split="train", cut="window", num_rows=5, files=(("a", (5,)),))
    written = Pin(table="synthetic_sequences", version=7, split="w", cut=None, num_rows=9, files=(("b", (2, 1)), ("c", (3,)), ("d", (3,))))
    both = beside(real, written, 4)
    assert (both.table, both.version, both.split, both.num_rows) == ("sequences", 3, "train + w", 5 + 6)
    assert [url for url, _ in both.files] == ["a", "b", "c"]


def test_an_interval_over_seeds_is_wider_than_one_over_users() -> None:
    one = np.array([[0.1, 0.0, 0.2]])
    np.testing.assert_array_equal(over_seeds(one, 0), one[0])
    two = np.stack([np.full(2001, 0.0), np.full(2001, 1.0)])  # each seed is sure of itself
    found = over_seeds(two, 0)
    assert found[0] == 0.5
    assert np.bincount((2 * found[1:]).astype(int)) / 2000 == pytest.approx([0.25, 0.5, 0.25], abs=0.05)
