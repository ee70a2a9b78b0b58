"""Checkpoints: safetensors for tensors, JSON for the rest, no pickle; never half visible, and known whole by their checksum.

A checkpoint is `epoch-0003.safetensors` and then `epoch-0003.json`, each written under a temporary name and renamed.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from foretaste.errors import TrainingError
from foretaste.training.average import PREFIX, Average

KEPT = 2  # the newest ones, beside the best
_PARAMETERS = "model."


@dataclass(frozen=True, kw_only=True)
class State:
    """Where a fit stands after `epoch` epochs. history and calibration are as in Fitted."""

    epoch: int = 0
    best_epoch: int = 0
    best_value: float = -float("inf")
    metrics: Mapping[str, float] = field(default_factory=dict)
    calibration: Mapping[str, float] | None = None
    history: tuple[Mapping[str, float], ...] = ()

    def to_json(self) -> str:
        return json.dumps(vars(self))

    @classmethod
    def from_json(cls, text: str) -> "State":
        fields = json.loads(text)
        return cls(**{**fields, "history": tuple(fields["history"])})


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A state with the tensors of `pack`, as safetensors bytes."""

    state: State
    tensors: bytes


class Checkpoints:
    """The checkpoints of one plan in a folder; those of other plans are ignored, and overwritten in time."""

    def __init__(self, folder: str | Path, digest: str) -> None:
        self.folder = Path(folder)
        self.digest = digest

    def save(self, checkpoint: Checkpoint) -> None:
        """Keeps it, and of the others only the newest and the best; TrainingError where the folder cannot be written."""
        name = _name(checkpoint.state.epoch)
        about = {"digest": self.digest, "sha256": hashlib.sha256(checkpoint.tensors).hexdigest(), "state": checkpoint.state.to_json()}
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            write(self.folder / f"{name}.safetensors", checkpoint.tensors)
            write(self.folder / f"{name}.json", json.dumps(about).encode())
            self._prune(checkpoint.state)
        except OSError as error:
            raise TrainingError(
                f"a checkpoint cannot be written: {error.strerror}", where=str(self.folder), fix="Make room there, or set warehouse.path."
            ) from error

    def newest(self) -> tuple[Checkpoint | None, list[str]]:
        """The newest checkpoint that is whole, and so is the best one before it; and a note for each that was skipped."""
        notes: list[str] = []
        for path in sorted(self.folder.glob("epoch-*.json"), reverse=True):
            checkpoint, fault = self._read(path)
            if checkpoint is not None:
                best = checkpoint.state.best_epoch
                if self.of_epoch(best) is not None:
                    return checkpoint, notes
                fault = f"the best one before it, {_name(best)}, is not whole"
            if fault:
                notes.append(f"skipped checkpoint {path.stem}: {fault}")
        return None, notes

    def of_epoch(self, epoch: int) -> Checkpoint | None:
        """That epoch's checkpoint, if it is there and whole."""
        return self._read(self.folder / f"{_name(epoch)}.json")[0]

    def _read(self, path: Path) -> tuple[Checkpoint | None, str]:
        """The checkpoint, or why there is none ("" where it is another plan's)."""
        try:
            about = json.loads(path.read_text(encoding="utf-8"))
            if about["digest"] != self.digest:
                return None, ""
            tensors = path.with_suffix(".safetensors").read_bytes()
            state = State.from_json(about["state"])
        except (OSError, ValueError, KeyError, TypeError):
            return None, "it cannot be read"
        if hashlib.sha256(tensors).hexdigest() != about["sha256"]:
            return None, "its tensors are cut short or changed"
        return Checkpoint(state=state, tensors=tensors), ""

    def _prune(self, state: State) -> None:
        kept = {_name(epoch) for epoch in (state.best_epoch, *range(state.epoch - KEPT + 1, state.epoch + 1))}
        for path in self.folder.glob("epoch-*"):
            if path.name.split(".")[0] not in kept:
                path.unlink(missing_ok=True)


def _name(epoch: int) -> str:
    return f"epoch-{epoch:04d}"


def write(path: Path, data: bytes) -> None:
    """Writes under a temporary name, flushes to disk and renames: a reader sees the old file or all of the new one."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def pack(model: nn.Module, optimizers: Mapping[str, Optimizer], average: Average | None = None) -> bytes:
    """All tensors that training changes: weights, their average, and what the optimizers keep for each parameter."""
    tensors = {f"{_PARAMETERS}{name}": value for name, value in model.state_dict().items()}
    for name, optimizer in optimizers.items():
        for index, kept in optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{name}.{index}.{key}": torch.as_tensor(value) for key, value in kept.items()}
    if average is not None:
        tensors |= {f"{PREFIX}{name}": value for name, value in average.weights.items()}
    return safetensors.torch.save(_own(tensors))


def pack_weights(model: nn.Module) -> bytes:
    """The weights alone, as a stored model has them."""
    return safetensors.torch.save(_own(model.state_dict()))


def unpack(data: bytes, model: nn.Module, optimizers: Mapping[str, Optimizer], average: Average | None = None) -> None:
    """Sets the model, the optimizers and the average to what `pack` saw."""
    tensors = safetensors.torch.load(data)
    model.load_state_dict({name.removeprefix(_PARAMETERS): value for name, value in tensors.items() if name.startswith(_PARAMETERS)})
    for name, optimizer in optimizers.items():
        kept: dict[int, dict[str, Any]] = {}
        for key, value in tensors.items():
            owner, _, rest = key.partition(f"optimizer.{name}.")
            if owner == "" and rest:
                index, _, entry = rest.partition(".")
                kept.setdefault(int(index), {})[entry] = value
        optimizer.load_state_dict({"state": kept, "param_groups": optimizer.state_dict()["param_groups"]})
    if average is not None:
        for name, weights in average.weights.items():
            weights.copy_(tensors[f"{PREFIX}{name}"])


def _own(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """On the CPU, in memory of their own."""
    return {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
