"""`python -m foretaste.reference`: docs/reference.md, made of what the code says of itself: commands, settings, tables."""

import inspect
import typing
from collections.abc import Iterator
from datetime import timedelta
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from foretaste.command import VERBS
from foretaste.settings import Settings
from foretaste.tables import TABLES


def reference() -> str:
    """The whole page, in Markdown."""
    return f"""# Reference

Made by `python -m foretaste.reference` of what the code says of itself; a test compares the two.

## Commands

Each is `foretaste VERB --config conf/….yaml --set key.sub=value`, and, but for `show` and `notebooks`, `jobs/VERB.py` for `spark-submit`.

| verb | |
| --- | --- |
{commands()}

## Settings

One YAML for each deployment. Durations read `30min`, `12h`, `7d`; what is not given has the value named here.

{settings()}

## Tables

A required column is never null.

{tables()}
"""


def commands() -> str:
    return "\n".join(f"| `{name}` | {inspect.cleandoc(verb.__doc__ or '').splitlines()[0]} |" for name, verb in VERBS.items())


def settings() -> str:
    """A section a group of settings, with a line for each key."""
    return "\n\n".join(_group(path, model) for path, model in _groups("", Settings))


def _groups(path: str, model: type[BaseModel]) -> Iterator[tuple[str, type[BaseModel]]]:
    """Each group with its path, those below it after it; each class once, where it stands first."""
    seen: set[type[BaseModel]] = set()
    waiting = [(path, model)]
    while waiting:
        path, model = waiting.pop(0)
        if model in seen:
            continue
        seen.add(model)
        yield path, model
        below = []
        for name, field in model.model_fields.items():
            for inner, suffix in _models_in(field.annotation):
                key = f"{field.alias or name}{suffix}"
                below.append((f"{path}.{key}" if path else key, inner))
        waiting = below + waiting


def _models_in(annotation: Any) -> Iterator[tuple[type[BaseModel], str]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation, ""
    for inner in get_args(annotation):
        suffix = ".NAME" if get_origin(annotation) is dict else ""
        for model, more in _models_in(inner):
            yield model, suffix + more


def _group(path: str, model: type[BaseModel]) -> str:
    words = inspect.cleandoc(model.__doc__ or "")
    keys = [f"| `{field.alias or name}` | {_kind(field)} | {_default(field)} |" for name, field in model.model_fields.items()]
    return f"### {path or 'all groups'}\n\n{words}\n\n| key | value | unless given |\n| --- | --- | --- |\n" + "\n".join(keys)


def _kind(field: FieldInfo) -> str:
    told = _words(field.annotation).replace("|", "or")
    return f"{told}: {field.description}" if field.description else told


def _words(annotation: Any) -> str:
    """
    >>> _words(dict[str, int] | None)
    'mapping of text to whole number'
    """
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return " or ".join(f"`{each}`" for each in inner)
    if origin in (Union, UnionType):
        return " or ".join(_words(each) for each in inner if each is not type(None))
    if origin is typing.Annotated:
        return _words(inner[0])
    if origin in (tuple, list):
        return f"list of {_words(inner[0])}"
    if origin is dict:
        return f"mapping of {_words(inner[0])} to {_words(inner[1])}"
    names = {"str": "text", "int": "whole number", "float": "number", "bool": "true or false", "timedelta": "duration", "datetime": "time"}
    name = getattr(annotation, "__name__", str(annotation))
    return names.get(name, "group" if isinstance(annotation, type) and issubclass(annotation, BaseModel) else name)


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "**must be given**"
    value = field.get_default(call_default_factory=True)
    if isinstance(value, BaseModel):
        return "see there"
    if value is None or value == {} or value == ():
        return "–"
    if isinstance(value, timedelta):
        return f"`{_duration(value)}`"
    if isinstance(value, tuple):
        return ", ".join(f"`{each}`" for each in value)
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f"`{value}`"


def _duration(value: timedelta) -> str:
    """
    >>> _duration(timedelta(hours=36))
    '36h'
    """
    for unit, length in (("d", timedelta(days=1)), ("h", timedelta(hours=1)), ("min", timedelta(minutes=1))):
        if value and value % length == timedelta(0):
            return f"{value // length}{unit}"
    return f"{value.total_seconds():g}s"


def tables() -> str:
    """Each table with its key, and a line for each column."""
    return "\n\n".join(
        f"**{table.name}** {table.comment[0].lower()}{table.comment[1:]}. Key: {', '.join(table.key)}.\n\n"
        "| column | type | meaning |\n| --- | --- | --- |\n"
        + "\n".join(
            f"| {column.name}{'' if column.required else ' (may be null)'} | {column.type} | {column.comment} |" for column in table.columns
        )
        for table in TABLES.values()
    )


if __name__ == "__main__":
    print(reference(), end="")
