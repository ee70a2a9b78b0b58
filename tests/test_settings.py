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


@pytest.mark.parametrize(
    ("text", "days"),
    [
        ("sequences: {horizon: 36h}", 2),
        ("sequences: {horizon: 7d, follow_up: 90d}\ntasks: {churn: {within: 28d}}", 90),
        ("sequences: {horizon: 7d}\ntasks: {churn: {within: 28d}, campaign: {within: 14d}, new_item: {within: 60d}}", 28),
        ("sequences: {horizon: 7d}\ntasks: {churn: {within: 2d}}", 7),
    ],
)
def test_rows_are_followed_for_as_long_as_the_tasks_ask(tmp_path: Path, text: str, days: int) -> None:
    assert load(settings_file(tmp_path, text)).followed_sequences.followed == timedelta(days=days)


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
        ("sequences: {protocol: random_split}", "Input should be 'global_time', 'session_next_item' or 'leave_one_out'"),
        ("sequences: {protocol: leave_one_out, until: 2024-01-01}", "leave_one_out holds out last events, whatever the times"),
        (
            "{sequences: {protocol: session_next_item}, tasks: {returns: {}}}",
            "tasks.returns learns from calendar moments, which only sequences.protocol global_time has",
        ),
        ("sessions: {gap: 0s}", "sessions.gap"),
        ("sequences: {event_types: [peek]}", "'peek' is no event type; use one of view, cart"),
        ("tasks: {interest: {model: {dropout: 1.0}}}", "tasks.interest.model.dropout: Input should be less than 1"),
        ("tasks: {interest: {model: {features: [item, colour]}}}", "'colour' is no feature"),
        (
            "tasks: {interest: {model: {position: absolute}}}",
            "tasks.interest.model.position: Input should be 'learned', 'rotary' or 'relative'",
        ),
        ("tasks: {interest: {model: {size: huge}}}", "tasks.interest.model.size: Input should be 'tiny', 'base' or 'large'"),
        (
            "tasks: {interest: {fit: {loss: {name: gbce}}}}",
            "tasks.interest.fit.loss: gbce needs negatives, such as negatives: {number: 512}",
        ),
        ("tasks: {interest: {fit: {loss: {negatives: {number: 5}}}}}", "cross_entropy is over the full catalogue; leave negatives out"),
        (
            "tasks: {interest: {fit: {loss: {name: gbce, negatives: {number: 5, exponent: 1}}}}}",
            "gbce is made for uniform negatives; set negatives.exponent to 0",
        ),
        (
            "tasks: {interest: {fit: {loss: {name: bpr_max, negatives: {number: 5}, label_smoothing: 0.1}}}}",
            "label_smoothing belongs to cross_entropy, and name is bpr_max",
        ),
        (
            "tasks: {interest: {fit: {loss: {name: hinge}}}}",
            "tasks.interest.fit.loss.name: Input should be 'cross_entropy', 'sampled_softmax'",
        ),
        ("tasks: {interest: {fit: {augment: {mask: 2}}}}", "tasks.interest.fit.augment.mask: Input should be less than or equal to 1"),
        ("tasks: {interest: {fit: {average: 1.0}}}", "tasks.interest.fit.average: Input should be less than 1"),
        ("tasks: {interest: {search: {trials: 1, over: {model.dropout: [0.1]}}}}", "tasks.interest.search.trials: Input should be greater"),
        (
            "tasks: {interest: {search: {trials: 2, over: {model.dropuot: [0.1]}}}}",
            "tasks.interest: search.over.model.dropuot: model.dropuot: no such setting; did you mean dropout?",
        ),
        (
            "tasks: {interest: {search: {trials: 2, over: {fit.learning_rate: [0.1, -1]}}}}",
            "search.over.fit.learning_rate: fit.learning_rate: Input should be greater than 0",
        ),
        (
            "tasks: {interest: {search: {trials: 2, over: {fit.epochs.x: [1]}}, fit: {epochs: 3}}}",
            "epochs is a value, not a group of settings",
        ),
        ("tasks: {interest: {search: {trials: 2, over: {model.dropout: []}}}}", "search.over.model.dropout has no value to try"),
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


def test_a_loss_draws_by_popularity_unless_it_is_made_for_uniform_negatives(tmp_path: Path) -> None:
    for text, expected in [
        ("{}", ("cross_entropy", 0)),
        ("{name: sampled_softmax, negatives: {number: 5}}", ("sampled_softmax", 5, 1.0)),
        ("{name: gbce, negatives: {number: 5}}", ("gbce", 5, 0.0)),
        ("{name: bpr_max, negatives: {number: 5, exponent: 0.5}}", ("bpr_max", 5, 0.5)),
    ]:
        objective = load(settings_file(tmp_path, f"tasks: {{interest: {{fit: {{loss: {text}}}}}}}")).tasks["interest"].fit.loss.objective
        assert (objective["name"], objective["draws"], objective["exponent"])[: len(expected)] == expected


def test_settings_may_be_altered_by_key(tmp_path: Path) -> None:
    text = "tasks: {interest: {fit: {epochs: 3}, search: {trials: 2, over: {fit.loss: [{label_smoothing: 0.1}], fit.augment.mask: [0.2]}}}}"
    task = load(settings_file(tmp_path, text)).tasks["interest"]
    altered = task.altered({"fit.augment.mask": 0.2, "model.name": "transformer"})
    assert (altered.fit.augment.mask, altered.fit.epochs, altered.model.name, altered.search) == (0.2, 3, "transformer", None)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="no such settings file"):
        load(tmp_path / "absent.yaml")


@pytest.mark.parametrize("override", ["training.workers", "=2", "training.workers.x=2"])
def test_an_override_that_is_none(tmp_path: Path, override: str) -> None:
    with pytest.raises(SettingsError, match="--set"):
        load(settings_file(tmp_path, "training: {launcher: spark, workers: 4}"), [override])
