"""A deployment: all its settings, checked together, and the YAML that they come from."""

import difflib
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import Field, ValidationError, field_validator, model_validator

from foretaste.contract import WAITS
from foretaste.errors import SettingsError
from foretaste.settings.data import (
    IngestSettings,
    MaintenanceSettings,
    SequenceSettings,
    SeriesSettings,
    SessionSettings,
    SourceSettings,
    SparkSettings,
    WarehouseSettings,
)
from foretaste.settings.explaining import explain
from foretaste.settings.fields import Strict
from foretaste.settings.learning import Baseline, SharedSettings, TaskSettings, TrainingSettings
from foretaste.settings.privacy import PrivacySettings
from foretaste.settings.quality import QualitySettings
from foretaste.settings.using import EvaluationSettings, ReportSettings, ScoringSettings, SegmentSettings, SynthesisSettings
from foretaste.tasks import TASKS


class Settings(Strict):
    """A deployment."""

    warehouse: WarehouseSettings = WarehouseSettings()
    maintenance: MaintenanceSettings = MaintenanceSettings()
    spark: SparkSettings = SparkSettings()
    source: SourceSettings = SourceSettings()
    ingest: IngestSettings = IngestSettings()
    sessions: SessionSettings = SessionSettings()
    sequences: SequenceSettings = SequenceSettings()
    series: SeriesSettings = SeriesSettings()
    tasks: dict[str, TaskSettings] = Field(default_factory=dict)
    shared: SharedSettings | None = None
    training: TrainingSettings = TrainingSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    scoring: ScoringSettings = ScoringSettings()
    segments: SegmentSettings = SegmentSettings()
    synthesis: SynthesisSettings = SynthesisSettings()
    privacy: PrivacySettings = PrivacySettings()
    quality: QualitySettings = QualitySettings()
    report: ReportSettings = ReportSettings()

    @field_validator("tasks")
    @classmethod
    def _known_tasks(cls, tasks: dict[str, TaskSettings]) -> dict[str, TaskSettings]:
        for name in tasks:
            if name not in TASKS:
                close = difflib.get_close_matches(name, TASKS, n=1)
                raise ValueError(
                    f"no task is called {name!r}; " + (f"did you mean {close[0]}?" if close else f"use one of {', '.join(TASKS)}")
                )
        return tasks

    @model_validator(mode="after")
    def _items_to_blend(self) -> "Settings":
        for name, task in self.tasks.items():
            if task.blend and (TASKS[name].metrics != "ranking" or task.model.name in get_args(Baseline)):
                raise ValueError(f"tasks.{name}.blend: a blend ranks items, by a network and counted models; leave it out here")
        return self

    @model_validator(mode="after")
    def _can_share(self) -> "Settings":
        for name in self.shared.weights if self.shared else ():
            if name not in self.tasks:
                raise ValueError(f"shared.weights.{name} is none of tasks; add it there, too")
            task = TASKS[name]
            if (
                task.table != "sequences"
                or task.needs_latents
                or task.writes_sequences
                or self.tasks[name].model.name in get_args(Baseline)
            ):
                raise ValueError(f"shared.weights.{name}: its model is no encoder with a head; leave it out here")
        if self.shared and self.sequences.refit:
            raise ValueError("shared: what several tasks learnt together is not fitted again; set sequences.refit to false or leave it out")
        return self

    @model_validator(mode="after")
    def _fitted_once(self) -> "Settings":
        for name, task in self.tasks.items():
            if task.fit.private and self.sequences.refit:
                raise ValueError(f"tasks.{name}.fit.private: sequences.refit fits it twice, and one fit is accounted; set refit to false")
        if self.shared and self.shared.fit.private:
            raise ValueError("shared.fit.private: what several tasks learn together is not accounted; leave it out")
        return self

    @model_validator(mode="after")
    def _rows_without_labels(self) -> "Settings":
        for name, task in self.tasks.items():
            kinds = task.fit.augment.written
            if kinds and (TASKS[name].head != "items" or TASKS[name].writes_sequences):
                raise ValueError(
                    f"tasks.{name}.fit.augment.{next(iter(kinds))}: written rows have no labels, so only a task that learns next items "
                    "can use them, and none that writes such rows itself; leave it out here"
                )
            if task.search and any(key.startswith("fit.augment.") and key.split(".")[2] in ("gan", "vae") for key in task.search.over):
                raise ValueError(f"tasks.{name}.search.over: whether written rows help is what the gate finds out, not a search")
        return self

    @model_validator(mode="after")
    def _days_to_wait(self) -> "Settings":
        for name, task in self.tasks.items():
            waits = {other.name for other in TASKS.values() if other.head in WAITS or other.metrics == "launches"}
            if task.within is not None and name not in waits:
                owners = " and ".join(sorted(waits))
                raise ValueError(f"tasks.{name}.within belongs to {owners}; leave it out here")
            missing = [kind for kind in self.sequences.activity if kind not in self.sequences.event_types]
            if TASKS[name].head in ("survival", "uplift") and missing:
                raise ValueError(f"sequences.activity: {missing[0]} is none of sequences.event_types, so tasks.{name} would never see any")
        return self

    @model_validator(mode="after")
    def _followed_for_so_long(self) -> "Settings":
        for name, task in self.tasks.items():
            if TASKS[name].head in WAITS and self.sequences.follow_up and (task.within or timedelta(0)) > self.sequences.follow_up:
                raise ValueError(f"sequences.follow_up is shorter than tasks.{name}.within; leave it out here")
        return self

    @model_validator(mode="after")
    def _whole_days(self) -> "Settings":
        for name in self.tasks:
            for key in ("horizon", "every"):
                if TASKS[name].table == "series" and getattr(self.sequences, key) % timedelta(days=1):
                    raise ValueError(f"sequences.{key}: tasks.{name} tells of whole days, so give a whole number of them")
        return self

    @model_validator(mode="after")
    def _rows_to_learn_from(self) -> "Settings":
        for name in self.tasks:
            if (TASKS[name].train_cut != "window" or TASKS[name].metrics == "launches") and self.sequences.protocol != "global_time":
                raise ValueError(f"tasks.{name} learns from {TASKS[name].train_cut} moments, which only sequences.protocol global_time has")
        return self

    @property
    def followed_sequences(self) -> SequenceSettings:
        """`sequences` with its follow_up: for as long as the tasks ask."""
        asked = [task.within for name, task in self.tasks.items() if TASKS[name].head in WAITS and task.within]
        return self.sequences.model_copy(update={"follow_up": max([self.sequences.followed, *asked])})


def load(path: str | Path, overrides: Sequence[str] = ()) -> Settings:
    """The settings in the YAML at `path`, with `key.sub=value` overrides on top; SettingsError names the key and the fix."""
    file = Path(path)
    if not file.is_file():
        raise SettingsError("there is no such settings file", where=str(path), fix="Name one with --config, such as conf/demo.yaml.")
    try:
        tree = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise SettingsError(f"the file is not YAML: {reason}", where=str(path), fix="Mend the line it names.") from error
    if not isinstance(tree, dict):
        raise SettingsError("the file is not a mapping of settings", where=str(path), fix="Start it with a key such as `warehouse:`.")
    for override in overrides:
        _apply(tree, override)
    try:
        return Settings.model_validate(tree)
    except ValidationError as error:
        raise SettingsError(explain(error, Settings), where=str(path), fix="See conf/ for examples.") from None


def _apply(tree: dict[str, Any], override: str) -> None:
    key, equals, value = override.partition("=")
    if not (key and equals):
        raise SettingsError("an override reads key.sub=value", where=f"--set {key}", fix="Such as --set training.workers=2.")
    *parents, leaf = key.split(".")
    for parent in parents:
        tree = tree.setdefault(parent, {})
        if not isinstance(tree, dict):
            raise SettingsError(f"{parent!r} is a value, not a group of settings", where=f"--set {key}", fix="Name a key inside a group.")
    try:
        tree[leaf] = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise SettingsError("the value is not YAML", where=f"--set {key}", fix="Quote it.") from error
