"""A trained GAN → synthetic_sequences: the same whatever the partitions, flagged, apart from every real table, and reported on."""

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from foretaste import registry
from foretaste.contract import FEATURES
from foretaste.errors import SettingsError
from foretaste.feed.pin import pin, rows_of
from foretaste.models.conditions import NOT_ASKED, WITHOUT
from foretaste.settings import Settings, WarehouseSettings
from foretaste.steps import synthesize as step
from foretaste.steps.planning import learnt
from foretaste.steps.synthesize import synthesize, wishes_of
from foretaste.steps.train import check, train
from foretaste.tables import Warehouse
from foretaste.tables.metrics import METRICS
from foretaste.tables.sequences import LABELS, SEQUENCES
from foretaste.tables.synthetic_sequences import SYNTHETIC_SEQUENCES, split_of
from foretaste.tasks import TASKS
from tests.steps.test_train import FIT, settings, write_tables

GAN = {"name": "gan", "size": "tiny", "latent": 4, "anneal_steps": 4, "features": ["item", "opens_session", "gap", "event"]}


def of(**synthesis: Any) -> Settings:
    chosen = settings(tasks={"behaviour": {"model": GAN, "fit": FIT}}, evaluation={"bootstrap": 10})
    return Settings.model_validate({**chosen.model_dump(exclude_unset=True), "synthesis": {"rows": 150, "report": 0, **synthesis}})


@pytest.fixture(scope="module")
def warehouse(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Warehouse:
    made = Warehouse(spark, WarehouseSettings(path=str(tmp_path_factory.mktemp("warehouse"))))
    write_tables(made, num_files=8)
    train(made, of())
    return made


def contents(warehouse: Warehouse) -> list[Any]:
    rows = warehouse.read(SYNTHETIC_SEQUENCES).drop("written_at").orderBy("user_id")
    return [tuple(row) for row in rows.collect()]


def files(warehouse: Warehouse) -> dict[str, str]:
    folder = Path(warehouse.path) / SEQUENCES.name
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.rglob("*") if path.is_file()}


def test_rows_are_those_of_sequences_and_flagged_and_nothing_real_is_touched(warehouse: Warehouse) -> None:
    before = files(warehouse)
    report = synthesize(warehouse, of())
    assert files(warehouse) == before
    assert report.written == {"synthetic_sequences": 150}
    rows = warehouse.read(SYNTHETIC_SEQUENCES)
    assert rows.columns[: len(SEQUENCES.names)] == SEQUENCES.names
    assert rows.where("not synthetic or split != 'synthetic behaviour 1'").isEmpty()
    assert rows.selectExpr("count(distinct user_id)").head()[0] == 150  # type: ignore[index]
    assert rows.where("not startswith(user_id, 'synthetic')").isEmpty()
    assert all(row[label.name] in (0, [0] * label.width) for row in rows.limit(3).collect() for label in LABELS)
    first = rows.head()
    assert first is not None
    assert all(len(first[name]) == len(first["item"]) for name in FEATURES)


def test_the_same_seed_writes_the_same_rows_in_any_partitions_and_another_does_not(
    warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    synthesize(warehouse, of())
    expected = contents(warehouse)
    monkeypatch.setattr(step, "LEAST_FILES", 3)
    synthesize(warehouse, of(batch_size=7))
    assert contents(warehouse) == expected
    synthesize(warehouse, of(seed=1))
    assert contents(warehouse) != expected


def test_the_feed_takes_them_like_real_ones(warehouse: Warehouse) -> None:
    synthesize(warehouse, of())
    pinned = pin(warehouse, split_of("behaviour", 1), "window", None, SYNTHETIC_SEQUENCES)
    assert pinned.num_rows == 150
    assert rows_of(warehouse, pinned, SYNTHETIC_SEQUENCES).count() == 150


def test_what_is_asked_for_is_written(warehouse: Warehouse) -> None:
    synthesize(warehouse, of(budget=3))
    assert warehouse.read(SYNTHETIC_SEQUENCES).where("length != 3").isEmpty()
    with pytest.raises(SettingsError, match=r"the model knows no category 'shoes' \(synthesis.category\)"):
        synthesize(warehouse, of(category="shoes"))


def test_conditions_that_a_model_never_learnt_are_not_put_to_it(warehouse: Warehouse) -> None:
    """Real rows have events without a campaign; a model that reads no events is not to be asked for that."""
    stored = registry.load(warehouse.path, "behaviour")
    rows = rows_of(warehouse, learnt(warehouse, TASKS["behaviour"], stored.tables[SEQUENCES.name]))
    assert set(wishes_of(rows, stored, of()).campaign.tolist()) == {WITHOUT}
    blind = replace(stored, model={**stored.model, "features": ["item", "gap"]})
    assert set(wishes_of(rows, blind, of()).campaign.tolist()) == {NOT_ASKED}
    with pytest.raises(SettingsError, match=r"the model reads no events' types, and knows of no campaign \(synthesis\.campaign\)"):
        step._check(blind, of(campaign=False).synthesis)
    variational = replace(stored, model={**stored.model, "name": "vae"})
    for name, value in (("category", "shoes"), ("campaign", True), ("cold", 0.5)):
        with pytest.raises(SettingsError, match=rf"a vae heeds nothing but a budget \(synthesis\.{name}\)"):
            step._check(variational, of(**{name: value}).synthesis)
    step._check(variational, of(budget=3).synthesis)


def test_both_reports_stand_beside_real_rows_and_in_metrics(warehouse: Warehouse) -> None:
    report = synthesize(warehouse, of(report=100))
    text = "\n".join(report.notes)
    for figure in ("total_variation(item)", "two_sample_auc", "copied_share", "nearest_distance(median)", "membership_auc(nearest)"):
        assert figure in text
    assert "trained on synthetic rows, tested on real validation rows" in text
    assert "one wish at a time: the share of rows that hold it" in text
    assert "user " not in text, "nobody is named"
    newest = warehouse.read(METRICS).where("task = 'behaviour'").selectExpr("max(run_at)").head()[0]  # type: ignore[index]
    found = {(row.model, row.metric): row.value for row in warehouse.read(METRICS).where(f"run_at = '{newest}'").collect()}
    assert found["synthetic", "out_of_range"] == 0
    assert 0 <= found["synthetic", "membership_auc(discriminator)"] <= 1
    assert ("real", "total_variation(pair)") in found
    assert 0 <= found["unasked", "heeded(item)"] <= 1
    assert found["asked", "heeded(campaign)"] > 0.5  # none has one, and nearly all are to be without


def test_one_user_in_five_is_unknown_to_what_writes_rows(warehouse: Warehouse) -> None:
    version = registry.load(warehouse.path, "behaviour").tables[SEQUENCES.name]
    known, all_of_them = learnt(warehouse, TASKS["behaviour"], version), learnt(warehouse, TASKS["interest"], version)
    assert 0 < known.num_rows < all_of_them.num_rows
    ours = rows_of(warehouse, known).select("user_id").distinct()
    theirs = rows_of(warehouse, all_of_them).select("user_id").distinct()
    assert ours.count() < theirs.count()


def test_a_model_that_cannot_write_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"gru writes no sequences \(tasks\.behaviour\.model\.name\). Use gan or vae"):
        check("behaviour", Settings.model_validate({"tasks": {"behaviour": {"model": {"name": "gru"}}}}).tasks["behaviour"])
    with pytest.raises(ValueError, match="task 'returns' writes no sequences; use behaviour"):
        Settings.model_validate({"synthesis": {"task": "returns"}})
