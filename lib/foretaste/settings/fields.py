"""What settings are made of: durations, event types, features, and groups that know their keys."""

import re
from datetime import timedelta
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer

from foretaste.contract import EVENT_TYPES, FACTS, FEATURES

_UNITS = {"s": 1, "min": 60, "h": 3600, "d": 86400, "w": 604800}


def _duration(value: Any) -> Any:
    if isinstance(value, str):
        match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(s|min|h|d|w)\s*", value)
        if not match:
            raise ValueError(f"{value!r} is not a duration such as 30min, 12h or 7d")
        return timedelta(seconds=float(match[1]) * _UNITS[match[2]])
    return value


def _event_type(value: Any) -> Any:
    if value not in EVENT_TYPES:
        raise ValueError(f"{value!r} is no event type; use one of {', '.join(EVENT_TYPES)}")
    return value


def _longer_than_nothing(value: timedelta) -> timedelta:
    if value <= timedelta(0):
        raise ValueError("must be longer than nothing")
    return value


def _feature(value: Any) -> Any:
    if value not in FEATURES:
        raise ValueError(f"{value!r} is no feature; use one of {', '.join(FEATURES)}")
    return value


def _fact(value: Any) -> Any:
    if value not in FACTS:
        raise ValueError(f"{value!r} is no fact; use one of {', '.join(FACTS)}")
    return value


Duration = Annotated[timedelta, BeforeValidator(_duration), PlainSerializer(lambda value: f"{value.total_seconds():.0f}s", return_type=str)]
Span = Annotated[Duration, AfterValidator(_longer_than_nothing)]
Feature = Annotated[str, BeforeValidator(_feature)]
Fact = Annotated[str, BeforeValidator(_fact)]
EventType = Annotated[str, BeforeValidator(_event_type)]
Identifier = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]


class Strict(BaseModel):
    """Settings are frozen, and an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)
