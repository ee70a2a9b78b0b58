"""Whether a source's columns still have the types that they had: a price that turned into a text is no price any more."""

import json
from collections.abc import Mapping

from foretaste.errors import SourceError
from foretaste.tables import Warehouse
from foretaste.tables.events import EVENTS

_FAMILIES = {
    "a number": ("tinyint", "smallint", "int", "bigint", "float", "double", "decimal"),
    "a text": ("string", "varchar", "char"),
    "a time": ("timestamp", "timestamp_ntz", "date"),
    "true or false": ("boolean",),
    "bytes": ("binary",),
}


def check_types(warehouse: Warehouse, source: str, now: Mapping[str, str], where: str) -> None:
    """SourceError where a column has a type of another kind than at an earlier ingest of the source. Wider numbers are numbers."""
    before = _known(warehouse, source)
    for column, kind in now.items():
        if column in before and _family(before[column]) != _family(kind):
            raise SourceError(
                f"the column {column!r} was {_family(before[column])} ({before[column]}) and is {_family(kind)} ({kind}) now",
                where=where,
                fix="Write it as before; or, where it is meant to be so, ingest it under another source.name.",
            )


def note_types(warehouse: Warehouse, source: str, now: Mapping[str, str]) -> None:
    """Keeps the types with the table events, for the next ingest."""
    before = _known(warehouse, source)
    if now and {**before, **now} != before:
        warehouse.set_property(EVENTS, _name(source), json.dumps({**before, **now}, sort_keys=True))


def _known(warehouse: Warehouse, source: str) -> dict[str, str]:
    told = warehouse.property(EVENTS, _name(source)) if warehouse.exists(EVENTS) else None
    return dict(json.loads(told)) if told else {}


def _name(source: str) -> str:
    return f"foretaste.types.{source}"


def _family(kind: str) -> str:
    plain = kind.split("(")[0].split("<")[0]
    return next((family for family, kinds in _FAMILIES.items() if plain in kinds), f"a {plain}")
