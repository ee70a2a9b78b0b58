"""Settings: what a YAML may say, and what its mistakes are answered with."""

from datetime import datetime, timedelta
from pathlib import Path

import pytest

from foretaste.errors import SettingsError
from foretaste.settings import load

CONF = Path(__file__).parents[1] / "conf"


def settings_file(folder: Path, text: str) -> Path:
    file = folder / "shop.yaml"
    file.write_text(text, encoding="utf-8")
    return file


@pytest.mark.parametrize("file", sorted(CONF.glob("*.yaml")), ids=lambda file: file.name)
def test_every_shipped_deployment_loads(file: Path) -> None:
    assert load(file).warehouse.path


def test_durations_and_dates(tmp_path: Path) -> None:
    file = settings_file(tmp_path, "sequences: {horizon: 36h, every: 1w, valid_from: 2017-11-01, test_from: 1.5d}")
    sequences = load(file).sequences
    assert sequences.horizon == timedelta(hours=36)
    assert sequences.every == timedelta(days=7)
    assert sequences.valid_from == datetime(2017, 11, 1)
    assert sequences.test_from == timedelta(hours=36)


def test_overrides_win_over_the_file(tmp_path: Path) -> None:
    file = settings_file(tmp_path, "training: {launcher: spark, workers: 4}")
    training = load(file, ["training.workers=2", "training.seed=7"]).training
    assert (training.launcher, training.workers, training.seed) == ("spark", 2, 7)


def test_an_empty_file_is_all_defaults(tmp_path: Path) -> None:
    assert load(settings_file(tmp_path, "")).sessions.gap == timedelta(minutes=30)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("training: {wrokers: 2}", "training.wrokers: no such setting; did you mean workers?"),
        ("trainin: {workers: 2}", "trainin: no such setting; did you mean training?"),
        ("tasks: {interest: {fit: {epocs: 3}}}", "tasks.interest.fit.epocs: no such setting; did you mean epochs?"),
        ("tasks: {intrest: {}}", "tasks: no task is called 'intrest'; did you mean interest?"),
        ("training: {workers: 0}", "training.workers: Input should be greater than or equal to 1"),
        ("training: {launcher: single, workers: 2}", "launcher single is one process"),
        ("training: {launcher: spork}", "training.launcher: Input should be 'spark', 'horovodrun' or 'single'"),
        ("sequences: {horizon: 7 fortnights}", "'7 fortnights' is not a duration such as 30min, 12h or 7d"),
        ("sequences: {horizon: 0d}", "sequences.horizon"),
        ("sessions: {gap: 0s}", "sessions.gap"),
        ("sequences: {event_types: [peek]}", "'peek' is no event type; use one of view, cart"),
        ("tasks: {interest: {model: {dropout: 1.0}}}", "tasks.interest.model.dropout: Input should be less than 1"),
        ("tasks: {interest: {model: {features: [item, colour]}}}", "'colour' is no feature"),
        ("warehouse: {catalog: main}", "catalog and schema go together"),
        ("warehouse: {catalog: main, schema: 'x; DROP'}", "warehouse.schema: String should match pattern"),
        ("- a list", "the file is not a mapping of settings"),
        ("a: [1", "the file is not YAML"),
    ],
)
def test_mistakes_name_the_key_and_the_fix(tmp_path: Path, text: str, expected: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load(settings_file(tmp_path, text))
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="no such settings file"):
        load(tmp_path / "absent.yaml")


@pytest.mark.parametrize("override", ["training.workers", "=2", "training.workers.x=2"])
def test_an_override_that_is_none(tmp_path: Path, override: str) -> None:
    with pytest.raises(SettingsError, match="--set"):
        load(settings_file(tmp_path, "training: {launcher: spark, workers: 4}"), [override])
