"""What is written of an event beside its item: whether the vocabulary knows it, whether it opens a session, after which gap, of which type.

Legend: N events, H units of the state before an event, E embedding.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from foretaste.contract import UNKNOWN

WRITTEN = ("item", "opens_session", "gap", "event")  # in the order in which an event's features are chosen


RARE = -3.0  # logit of an unknown item before anything is learnt


class Unknown(nn.Linear):
    """How likely an event's item is one that the vocabulary lacks: a logit of the state before it. No head ever names such an item."""

    def __init__(self, *, width: int) -> None:
        super().__init__(width, 1)
        nn.init.constant_(self.bias, RARE)

    def logit(self, state: Tensor) -> Tensor:
        """(N,) of (N, H)."""
        return self(state).squeeze(1)  # type: ignore[no-any-return]

    def loss(self, state: Tensor, item: Tensor) -> Tensor:
        """(): minus the logarithm of what (N,) events are worth in this respect, summed."""
        return F.binary_cross_entropy_with_logits(self.logit(state).float(), (item == UNKNOWN).float(), reduction="sum")


class Details(nn.Module):
    """One small network for each detail, of the state before the event and of the sum of what was chosen for it so far."""

    def __init__(self, *, num_codes: Mapping[str, int], width: int, embedding: int) -> None:
        """num_codes: of each detail, in the order of WRITTEN; width: H"""
        super().__init__()
        self.choose = nn.ModuleDict(
            {
                name: nn.Sequential(nn.Linear(width + embedding, embedding), nn.ReLU(), nn.Linear(embedding, codes))
                for name, codes in num_codes.items()
            }
        )

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.choose)

    def logits(self, name: str, state: Tensor, chosen: Tensor) -> Tensor:
        """(N, codes - 1) of (N, H) and (N, E): of code 1 and more, since PAD is never chosen."""
        return self.choose[name](torch.cat([state, chosen], dim=1))[:, 1:]  # type: ignore[no-any-return]

    def loss(self, state: Tensor, chosen: Tensor, codes: Mapping[str, Tensor], embeddings: nn.ModuleDict) -> Tensor:
        """(): minus the logarithm of what the events' details are worth, summed. chosen: (N, E) of their items; codes: (N,) each"""
        total = torch.zeros((), device=state.device)
        for name in self.choose:
            code = codes[name].long()
            total = total + F.cross_entropy(self.logits(name, state, chosen).float(), code - 1, reduction="sum")
            chosen = chosen + embeddings[name](code)
        return total
