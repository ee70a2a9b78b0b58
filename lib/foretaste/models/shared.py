"""shared: one encoder below the heads of several tasks, which learn in turn.

Each task has an optimizer of its own over the encoder and its head, so each keeps its own moments of Adam, and its weight is what its
learning rate is multiplied with: a loss that is only scaled would move Adam no further (hard parameter sharing; Caruana 1997, Multitask
Learning). What is left of a task afterwards is a model like any other: the encoder with that task's head.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from foretaste.contract import Batch
from foretaste.errors import ModelError
from foretaste.models.heads import ItemsHead
from foretaste.models.losses import Loss
from foretaste.models.model import Model

_OF_TASK = "parts."


class Shared(nn.Module):
    """parts: task → its model, all of one kind and size; from here on all but their heads are the first's. weights: task → its weight"""

    def __init__(self, parts: Mapping[str, Model], weights: Mapping[str, float]) -> None:
        super().__init__()
        first, *others = parts.values()
        self.noise = first.noise
        for part in others:
            _join(part, first)
        self.parts, self.weights = nn.ModuleDict(parts), dict(weights)

    def optimizers(self, *, learning_rate: float, weight_decay: float) -> dict[str, Optimizer]:
        """One for each task, by its name."""
        return {
            task: self.part(task).optimizers(learning_rate=learning_rate * self.weights[task], weight_decay=weight_decay)["main"]
            for task in self.parts
        }

    def step(self, batches: Mapping[str, Batch[Tensor]]) -> Iterator[Loss]:
        """One Loss a task, in turn, each from its own rows."""
        for task, batch in batches.items():
            for loss in self.part(task).step(batch):
                yield replace(loss, optimizer=task)

    def part(self, task: str) -> Model:
        """The model of one task."""
        part = self.parts[task]
        assert isinstance(part, Model)
        return part


def of_task(tensors: Mapping[str, Tensor], task: str) -> dict[str, Tensor]:
    """From a shared model's tensors those of one task's model."""
    own = f"{_OF_TASK}{task}."
    return {name.removeprefix(own): tensor for name, tensor in tensors.items() if name.startswith(own)}


def _join(part: Model, first: Model) -> None:
    """Puts the first one's modules in the place of its own, all but the head, and ties the head to them, where it is tied."""
    if [type(part), *_shapes(part)] != [type(first), *_shapes(first)]:
        raise ModelError("models of different kinds or sizes share no encoder", where="shared.model", fix="Give them one.")
    for name, module in first.named_children():
        if name != "head":
            setattr(part, name, module)
    if isinstance(part.head, ItemsHead) and part.head.tied[0] is not None:
        tied = first.embeddings["item"]
        part.head.tied = (tied,)  # type: ignore[assignment]
    part.noise = first.noise


def _shapes(model: Model) -> list[tuple[str, torch.Size]]:
    return [(name, tensor.shape) for name, tensor in model.state_dict().items() if not name.startswith("head.")]
