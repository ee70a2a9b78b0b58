"""What one fit is told, and what it answers: both go between processes as JSON."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from foretaste.contract import SERIES_FEATURES, Sizes
from foretaste.feed.snapshot import Pin
from foretaste.settings import FitSettings, ModelSettings


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One model to fit.

    task:    the task's name, which is the model's too
    head:    of Task
    label:   the column it learns from
    train, valid: pinned rows; without valid it fits all its epochs and judges nothing
    folder:  where checkpoints and weights go: all ranks and the driver see it
    threads: CPU threads a rank; None leaves it to torch; own_cores: which no other rank of the machine may use
    stall_s: seconds after which a rank that does nothing ends itself
    last_epoch: where it ends, if before fit.epochs; the schedule is still that of all of them
    leave_out_seen: items of a row's history are no candidates when it is judged
    tables:  a safetensors file, or None: `popularity` (num_items - FIRST_INDEX,), how often each item is a target, positive;
             `category` (num_items,), the one that each item is of most often, 0 for none;
             `similar` (num_items, k), the items that come with each item most often, PAD where there are fewer;
             `line.<arm>.<fact>` (codes,) or (1,), `line.<arm>.intercept` and `line.<arm>.share` (1,): a logistic regression of the
             answer on facts (of each arm of a trial, else arm 0), and the share of rows with that answer
    next_only: the first item of a label is what is asked for, not all of them
    blend, start: fit the ranker of a blend instead of `model`: what models.restored builds it from, and the file of all its tensors
    latents: the model whose numbers it reads, where settings ask for it: `model`, what it is built from, `weights`, its file, and `sha256`
    weight: how much the task counts for beside its companions
    companions: the other tasks on the same encoder, fitted together with this one (models/shared.py): rows, head and tables are theirs;
             model (facts apart), fit, seed and folder are alike
    """

    task: str
    head: str
    label: str
    model: ModelSettings
    fit: FitSettings
    sizes: Sizes
    train: Pin
    valid: Pin | None
    seed: int
    folder: str
    threads: int | None = None
    own_cores: bool = False
    stall_s: float = 600.0
    last_epoch: int | None = None
    leave_out_seen: bool = False
    tables: str | None = None
    next_only: bool = True
    blend: Mapping[str, Any] | None = None
    start: str | None = None
    latents: Mapping[str, Any] | None = None
    weight: float = 1.0
    companions: tuple["Plan", ...] = ()

    @property
    def tasks(self) -> dict[str, "Plan"]:
        """Each task that is fitted, with a plan of its own."""
        return {each.task: each for each in (replace(self, companions=()), *self.companions)}

    @property
    def name(self) -> str:
        """What is fitted, in words."""
        return " + ".join(self.tasks)

    @property
    def end(self) -> int:
        """The number of the last epoch, unless it stops early."""
        return min(self.fit.epochs, self.last_epoch or self.fit.epochs)

    @property
    def features(self) -> tuple[str, ...]:
        """What is read of a row: what the model reads, and the items in any case, since targets and negatives are told by them."""
        if self.head == "counts":
            return SERIES_FEATURES
        own = self.blend["features"] if self.blend else self.model.features
        return tuple(dict.fromkeys(("item", *own, *(self.latents["model"]["features"] if self.latents and self.model.latents else ()))))

    @property
    def facts(self) -> tuple[str, ...]:
        """Which of contract.FACTS the model reads."""
        return () if self.blend else self.model.facts or ()

    @property
    def options(self) -> dict[str, Any]:
        """What `models.build` takes beside the model's name, the head, the label, the sizes and the objective."""
        latents = {"latents": self.latents["model"]} if self.latents and self.model.latents else {}
        return self.model.model_dump(exclude={"name", "latents"}) | latents

    @property
    def digest(self) -> str:
        """Names what is learnt: a checkpoint of another digest is of no use here.

        A run with more epochs goes on where the shorter one stopped, unless the schedule knows how many there are.
        """
        may_grow = {"patience", "epochs"} if self.fit.schedule == "constant" else {"patience"}
        what = {
            "task": [self.task, self.head, self.label, self.seed],
            "model": self.model.model_dump(mode="json"),
            "fit": self.fit.model_dump(mode="json", exclude=may_grow),
            "sizes": dataclasses.asdict(self.sizes),
            "rows": [self.train.to_json(), self.valid.to_json() if self.valid else None, self.leave_out_seen],
            "blend": [self.blend, self.next_only],
        }
        if self.latents:
            what["latents"] = [self.latents["sha256"]]
        if self.companions:
            what["together"] = [self.weight, *[[each.weight, each.digest] for each in self.companions]]
        return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()

    def to_json(self) -> str:
        apart = ("model", "fit", "sizes", "train", "valid", "companions")
        plain = [each.name for each in dataclasses.fields(self) if each.name not in apart]
        fields = {name: getattr(self, name) for name in plain}
        nested = {
            "model": self.model.model_dump(mode="json"),
            "fit": self.fit.model_dump(mode="json"),
            "sizes": dataclasses.asdict(self.sizes),
            "train": self.train.to_json(),
            "valid": self.valid.to_json() if self.valid else None,
            "companions": [each.to_json() for each in self.companions],
        }
        return json.dumps(fields | nested)

    @classmethod
    def from_json(cls, text: str) -> "Plan":
        fields = json.loads(text)
        fields["model"] = ModelSettings.model_validate(fields["model"])
        fields["fit"] = FitSettings.model_validate(fields["fit"])
        fields["sizes"] = Sizes(**fields["sizes"])
        fields["train"] = Pin.from_json(fields["train"])
        fields["valid"] = Pin.from_json(fields["valid"]) if fields["valid"] else None
        fields["companions"] = tuple(cls.from_json(each) for each in fields["companions"])
        return cls(**fields)


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """What a fit came to.

    weights:     the file of the best epoch's weights
    best_epoch:  counted from 1
    value:       of the best epoch, what it was chosen by: the larger the better
    metrics:     of the best epoch, on the validation rows; none where there were none
    calibration: slope and intercept of a binary head's logits; None for others
                 (of several tasks together, names of these and of metrics begin with the task's and a point; `value` is among the latter)
    history:     one entry an epoch: epoch, loss (mean over targets; `loss of …` each of several optimizers), targets, steps, seconds (with
                 judging), steps_per_s and sequences_per_s (without), waiting (for rows, as a share of that time), and validation metrics
    notes:       what else is worth a line, such as a broken checkpoint or a lost rank
    """

    weights: str
    best_epoch: int
    value: float
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
