"""What the loop needs of the processes that learn together; with one process, nothing happens."""

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor


class Ranks(Protocol):
    """rank: 0 … size - 1; local_rank: the rank's number on its own machine."""

    rank: int
    size: int
    local_rank: int

    def add_up(self, tensors: Sequence[Tensor], name: str) -> None:
        """Replaces each tensor by its sum over all ranks, in place. All ranks call it with the same name and shapes."""
        ...

    def broadcast(self, data: bytes) -> bytes:
        """Rank 0's data, on every rank."""
        ...

    def doing(self, what: str) -> None:
        """From now on this rank does `what` (see stalls.py), until it says otherwise or adds up."""
        ...


class Alone:
    """One process."""

    rank = 0
    size = 1
    local_rank = 0

    def add_up(self, tensors: Sequence[Tensor], name: str) -> None:
        pass

    def broadcast(self, data: bytes) -> bytes:
        return data

    def doing(self, what: str) -> None:
        pass
