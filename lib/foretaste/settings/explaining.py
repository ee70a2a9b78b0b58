"""What is wrong with settings, in words: the key, and what it may be."""

import difflib
from typing import Any

from pydantic import ValidationError

from foretaste.settings.fields import Strict


def explain(error: ValidationError, root: type[Strict]) -> str:
    """Each fault with its key. root: the settings that were read"""
    return "; ".join(_explain_one(fault["loc"], fault["type"], fault["msg"], root) for fault in error.errors())


def _explain_one(location: tuple[int | str, ...], kind: str, message: str, root: type[Strict]) -> str:
    key = ".".join(str(part) for part in location)
    if kind != "extra_forbidden":
        return f"{key or 'settings'}: {message.removeprefix('Value error, ').rstrip('.')}"
    known = _keys_beside(location, root)
    close = difflib.get_close_matches(str(location[-1]), known, n=1)
    hint = f"did you mean {close[0]}?" if close else f"known here: {', '.join(known)}"
    return f"{key}: no such setting; {hint}"


def _keys_beside(location: tuple[int | str, ...], model: type[Strict]) -> list[str]:
    """The valid keys of the group that the last part of `location` was looked for in, from `model` on."""
    for part in location[:-1]:
        fields = model.model_fields
        annotation = next((field.annotation for name, field in fields.items() if part in (name, field.alias)), None)
        if annotation is None:
            continue  # a dict's own key, such as a task's name: its value's model is the one at hand
        model = next((kind for kind in _kinds(annotation) if isinstance(kind, type) and issubclass(kind, Strict)), Strict)
    return [field.alias or name for name, field in model.model_fields.items()]


def _kinds(annotation: Any) -> list[Any]:
    """`annotation` and everything inside it: Optional[X], dict[str, X], …"""
    inner = getattr(annotation, "__args__", ())
    return [annotation, *(kind for argument in inner for kind in _kinds(argument))]
