"""The report's page: one file, no script, nothing from a network; tables that scroll by themselves where a phone is too narrow for them."""

import math
from collections.abc import Mapping
from importlib import resources
from typing import Any

import pandas as pd
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from foretaste.report import charts
from foretaste.report.gather import Compared, Facts

_SECTIONS = {
    "data": "Data",
    "sessions": "Sessions",
    "models": "Models",
    "worth": "Worth",
    "demand": "Demand",
    "changes": "Changes",
    "users": "Users",
}


def rendered(facts: Facts) -> str:
    """The page's HTML. What comes from data (names of items, ids) is escaped."""
    pictures = _pictures(facts)
    there = {**_SECTIONS}
    if not pictures["demand"]:
        del there["demand"]
    if not facts.examples:
        del there["users"]
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    template = resources.files("foretaste.report").joinpath("page.html").read_text(encoding="utf-8")
    return environment.from_string(template).render(
        facts=facts,
        sections=there.items(),
        tiles=[
            ("events", number(facts.totals["events"])),
            ("users", number(facts.totals["users"])),
            ("items", number(facts.totals["items"])),
            ("sessions", number(facts.totals["sessions"])),
            ("models that serve", str(len(facts.models))),
            ("users scored", number(facts.scored.users.max() if len(facts.scored) else 0)),
        ],
        pictures=pictures,
        kinds=[
            _row(
                kind.event_type,
                *map(number, (kind.events, kind.users, kind.last_week, kind.week_before)),
                _change(kind.last_week, kind.week_before),
            )
            for kind in _lines(facts.kinds)
        ],
        refused=[_row(each.reason, number(each.records)) for each in _lines(facts.refused)],
        models=[
            _row(
                model.task,
                model.model["name"] + (f" of {model.model['network']['name']}" if model.model["name"] == "blend" else ""),
                str(model.version),
                str(len(model.history)),
                str(model.seed),
                ", ".join(f"{table}@{version}" for table, version in model.tables.items()),
            )
            for model in facts.models
        ],
        compared=[_told(each) for each in facts.compared],
        freshness=[
            _row(each.table, number(each.rows), _difference(each.rows, each.then), str(each.version), each.written, each.by)
            for each in _lines(facts.freshness)
        ],
        changes=[
            _row(each.task, each.headline, f"{now:.4f}", f"{each.before:.4f}", f"{now - each.before:+.4f}")
            for each in facts.compared
            if not math.isnan(each.before) and not math.isnan(now := _value(each))
        ],
        scored=[
            _row(each.task, each.as_of, number(each.users), f"{each.fallback:.1%}", str(each.model_version))
            for each in _lines(facts.scored)
        ],
        number=number,
        share=lambda part, whole: f"{part / whole:.2%}" if whole else "–",
    )


def _pictures(facts: Facts) -> Mapping[str, list[Markup]]:
    found: dict[str, list[str]] = {"data": [], "sessions": [], "models": [], "demand": []}
    if len(facts.daily):
        found["data"].append(charts.daily(facts.daily))
    if len(facts.lengths):
        found["sessions"].append(charts.doublings(facts.lengths, "Sessions by their length", "events"))
        found["sessions"].append(charts.doublings(facts.visits, "Users by their sessions", "sessions"))
    found["models"] += [charts.learning(model) for model in facts.models if model.history]
    for _, one in facts.foretold.sort_values(["whole", "series_id"], ascending=[False, True]).groupby("series_id", sort=False):
        past = facts.past[facts.past.series_id == one.series_id.iloc[0]]
        found["demand"].append(charts.fan(str(one["name"].iloc[0]), past, one))
    return {name: [Markup(picture) for picture in pictures] for name, pictures in found.items()}


def _told(each: Compared) -> dict[str, Any]:
    own = each.table.model == each.model
    order = [each.model, *dict.fromkeys(each.table.model[~own])]
    rows = []
    for name in order:
        of_one = each.table[each.table.model == name].set_index("metric")
        cells = [_interval(of_one.loc[metric]) if metric in of_one.index else "" for metric in each.shown]
        rows.append({"own": name == each.model, "cells": [name, *cells]})
    pictures = [charts.forest(each.table[each.table.metric == each.headline], each.model, each.headline, falling=each.lower_is_better)]
    if len(each.curves):
        pictures += [charts.calibration(each.curves), charts.gains(each.curves)]
    return {
        "task": each.task,
        "question": each.question,
        "verdict": _verdict(each),
        "num_rows": int(each.table.num_rows.iloc[0]),
        "run_at": f"{each.run_at:%Y-%m-%d %H:%M}",
        "columns": [("", 0), *[(metric, 1) for metric in each.shown]],
        "rows": rows,
        "pictures": [Markup(picture) for picture in pictures],
    }


def _verdict(each: Compared) -> str:
    """The model against the baseline that comes nearest to it, or is furthest ahead; in words that claim no more than the interval does."""
    if each.differences.empty:
        return ""
    sign = -1 if each.lower_is_better else 1
    nearest = min(_lines(each.differences), key=lambda row: sign * row.value)
    other = nearest.model.partition(" minus ")[2]
    high = max(sign * nearest.low, sign * nearest.high)
    lows = [min(sign * row.low, sign * row.high) for row in _lines(each.differences)]
    figures = f"{each.headline}, difference {nearest.value:+.4f} [{nearest.low:+.4f}, {nearest.high:+.4f}]"
    if min(lows) > 0:
        return f"Better than all beside it; {other} comes nearest ({figures})."
    if high < 0:
        return f"Worse than {other} ({figures})."
    return f"Not to be told apart from {other} by these rows ({figures})."


def _value(each: Compared) -> float:
    own = each.table[(each.table.model == each.model) & (each.table.metric == each.headline)]
    return float(own.value.iloc[0]) if len(own) else math.nan


def _interval(row: "pd.Series[Any]") -> Markup:
    if math.isnan(row.low):
        return Markup(f"{row.value:.4f}")
    return Markup(f"{row.value:.4f}<small>[{row.low:.4f}, {row.high:.4f}]</small>")


def _lines(frame: pd.DataFrame) -> list[Any]:
    """Its rows, as named tuples."""
    return list(frame.itertuples(index=False))


def _row(*cells: str, own: bool = False) -> dict[str, Any]:
    return {"own": own, "cells": cells}


def number(value: float) -> str:
    """
    >>> number(1234567)
    '1,234,567'
    """
    return f"{int(value):,}"


def _change(now: float, before: float) -> str:
    return f"{(now - before) / before:+.0%}" if before else "–"


def _difference(now: float, then: float | None) -> str:
    return "" if then is None or math.isnan(then) or now == then else f"{int(now - then):+,}"
