"""What one fit is told, and what it answers: both go between processes as JSON."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from foretaste.contract import Sizes
from foretaste.feed.snapshot import Pin
from foretaste.settings import FitSettings, ModelSettings

_MAY_GROW = {"fit": {"epochs", "patience"}}  # a run with more epochs goes on where the shorter one stopped


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One model to fit.

    task:    the task's name, which is the model's too
    head:    items or binary
    label:   the column it learns from
    train, valid: pinned rows
    folder:  where checkpoints and weights go: all ranks and the driver see it
    threads: CPU threads a rank; None leaves it to torch
    """

    task: str
    head: str
    label: str
    model: ModelSettings
    fit: FitSettings
    sizes: Sizes
    train: Pin
    valid: Pin
    seed: int
    folder: str
    threads: int | None = None

    @property
    def options(self) -> dict[str, Any]:
        """What `models.build` takes beside the model's name, the head, the label and the sizes."""
        return self.model.model_dump(exclude={"name"})

    @property
    def digest(self) -> str:
        """Names what is learnt: a checkpoint of another digest is of no use here."""
        what = {
            "task": [self.task, self.head, self.label, self.seed],
            "model": self.model.model_dump(mode="json"),
            "fit": self.fit.model_dump(mode="json", exclude=_MAY_GROW["fit"]),
            "sizes": dataclasses.asdict(self.sizes),
            "rows": [self.train.to_json(), self.valid.to_json()],
        }
        return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()

    def to_json(self) -> str:
        fields = {name: getattr(self, name) for name in ("task", "head", "label", "seed", "folder", "threads")}
        nested = {
            "model": self.model.model_dump(mode="json"),
            "fit": self.fit.model_dump(mode="json"),
            "sizes": dataclasses.asdict(self.sizes),
            "train": self.train.to_json(),
            "valid": self.valid.to_json(),
        }
        return json.dumps(fields | nested)

    @classmethod
    def from_json(cls, text: str) -> "Plan":
        fields = json.loads(text)
        fields["model"] = ModelSettings.model_validate(fields["model"])
        fields["fit"] = FitSettings.model_validate(fields["fit"])
        fields["sizes"] = Sizes(**fields["sizes"])
        fields["train"], fields["valid"] = Pin.from_json(fields["train"]), Pin.from_json(fields["valid"])
        return cls(**fields)


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """What a fit came to.

    weights:     the file of the best epoch's weights
    best_epoch:  counted from 1
    metrics:     of the best epoch, on the validation rows
    calibration: slope and intercept of a binary head's logits; None for others
    history:     one entry an epoch: epoch, loss (mean over targets), targets, steps, seconds, and the validation metrics
    notes:       what else is worth a line, such as a broken checkpoint or a lost rank
    """

    weights: str
    best_epoch: int
    metrics: Mapping[str, float]
    calibration: Mapping[str, float] | None
    history: tuple[Mapping[str, float], ...]
    num_parameters: int
    size: int
    notes: tuple[str, ...] = field(default=())

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Fitted":
        fields = json.loads(text)
        fields["history"], fields["notes"] = tuple(fields["history"]), tuple(fields["notes"])
        return cls(**fields)
