"""What a step did, as the person who runs it wants to read it."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class StepReport:
    """read, written: rows by table or file; notes: whatever else is worth a line, such as quarantine counts by reason."""

    step: str
    read: Mapping[str, int] = field(default_factory=dict)
    written: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
