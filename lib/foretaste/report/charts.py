"""The report's pictures, as SVG that a page holds inside.

Small, so that a phone shows them whole; in colours that colour-blind eyes tell apart (Okabe & Ito 2008), and never by colour alone.
"""

import html
import io
import re
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from foretaste.stored_model import StoredModel

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_LINES = ("-", "--", "-.", ":")
_SIZE = (4.6, 2.9)  # inches: 11 points are then still 9 pixels high on a phone 360 wide
_STYLE: Any = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e5e5e5",
    "axes.axisbelow": True,
    "svg.fonttype": "none",  # text stays text: it can be searched, and read aloud
    "font.family": "sans-serif",
    "svg.hashsalt": "foretaste",  # the same page of the same figures
}


def _drawn(height: float = _SIZE[1]) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(_SIZE[0], height), layout="constrained")
    return figure, figure.subplots()


def svg(figure: Figure, label: str) -> str:
    """The picture as one element, with words for those who cannot see it."""
    written = io.StringIO()
    figure.savefig(written, format="svg", metadata={"Date": None, "Creator": None})
    text = written.getvalue()
    text = text[text.index("<svg") :]
    words = html.escape(label)
    text = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text, count=1), count=1)
    return text.replace("<svg", f'<svg role="img" aria-label="{words}"', 1)


def daily(events: pd.DataFrame) -> str:
    """events: day, event_type, events. The most frequent kinds, a line each."""
    with mpl.rc_context(_STYLE):
        figure, axes = _drawn()
        wide = events.pivot_table(index="day", columns="event_type", values="events", aggfunc="sum", fill_value=0)
        wide.index = pd.to_datetime(wide.index)
        wide = wide.asfreq("D", fill_value=0)
        for number, kind in enumerate(wide.sum().sort_values(ascending=False).index[: len(COLOURS)]):
            axes.plot(wide.index, wide[kind], _LINES[number % len(_LINES)], color=COLOURS[number], label=kind, linewidth=1.2)
        axes.set(title="Events a day", ylim=(0, None))
        axes.legend(frameon=False, fontsize=9)
        axes.tick_params(axis="x", rotation=30)
        return svg(figure, f"Events a day, from {wide.index[0]:%Y-%m-%d} to {wide.index[-1]:%Y-%m-%d}")


def doublings(counts: pd.DataFrame, title: str, across: str) -> str:
    """counts: `from`, a power of two, and how many lie between it and its double."""
    with mpl.rc_context(_STYLE):
        figure, axes = _drawn()
        labels = [f"{low}" if low == 1 else f"{low}–{2 * low - 1}" for low in counts["from"]]
        axes.bar(labels, counts["count"], color=COLOURS[0])
        axes.set(title=title, xlabel=across)
        axes.grid(axis="x", visible=False)
        axes.tick_params(axis="x", rotation=45)
        return svg(figure, f"{title}: {', '.join(f'{label}: {n:,}' for label, n in zip(labels, counts['count'], strict=True))}")


def learning(model: StoredModel) -> str:
    """Training loss, and what it was judged by on validation rows, by epoch."""
    with mpl.rc_context(_STYLE):
        figure, left = _drawn()
        epochs = [entry["epoch"] for entry in model.history]
        left.plot(epochs, [entry["loss"] for entry in model.history], "o-", color=COLOURS[0], markersize=4)
        left.set(title=f"{model.task}: version {model.version}", xlabel="epoch")
        left.set_ylabel("training loss (dots)", color=COLOURS[0])
        left.xaxis.set_major_locator(MaxNLocator(integer=True))
        name = next(
            (each for each in model.metrics if each not in ("rows", "rate") and all(each in entry for entry in model.history)), None
        )
        if name:
            right = left.twinx()
            right.plot(epochs, [entry[name] for entry in model.history], "s--", color=COLOURS[1], markersize=4)
            right.set_ylabel(f"validation {name} (squares)", color=COLOURS[1])
            right.grid(visible=False)
            right.spines["right"].set_visible(True)
        return svg(figure, f"How {model.task} learnt over {len(epochs)} epochs")


def forest(table: pd.DataFrame, model: str, metric: str, *, falling: bool) -> str:
    """table: model, value, low, high of one metric. Dots with 95 % intervals, the model's own first.

    falling: the lower the better
    """
    with mpl.rc_context(_STYLE):
        ordered = table.assign(own=table.model == model).sort_values(["own", "value"], ascending=[True, not falling])
        figure, axes = _drawn(1.1 + 0.32 * len(ordered))
        rows: list[Any] = list(ordered.itertuples())
        for place, row in enumerate(rows):
            colour, marker = (COLOURS[1], "D") if row.own else (COLOURS[0], "o")
            axes.plot([row.low, row.high], [place, place], color=colour, linewidth=2)
            axes.plot([row.value], [place], marker, color=colour)
        axes.set(yticks=range(len(ordered)), yticklabels=ordered.model, title=f"{metric}, 95 % intervals")
        told = "; ".join(f"{row.model} {row.value:.4f}" for row in rows)
        return svg(figure, f"{metric} on test rows: {told}")


def calibration(curves: pd.DataFrame) -> str:
    """curves: metric, value. Of each tenth of users by their score, what was foretold and what came."""
    with mpl.rc_context(_STYLE):
        predicted, observed = (_points(curves, name) for name in ("predicted in tenth", "observed in tenth"))
        figure, axes = _drawn()
        most = float(np.nanmax([*predicted, *observed, 1e-6])) * 1.05
        axes.plot([0, most], [0, most], ":", color="#666666", label="as foretold")
        axes.plot(predicted, observed, "o-", color=COLOURS[0], label="tenths of the rows")
        axes.set(title="Calibration", xlabel="foretold, on average", ylabel="came", xlim=(0, most), ylim=(0, most))
        axes.legend(frameon=False, fontsize=9)
        told = ", ".join(f"{each:.2f} came {came:.2f}" for each, came in zip(predicted, observed, strict=True))
        return svg(figure, f"Calibration by tenths of the rows: foretold {told}")


def gains(curves: pd.DataFrame) -> str:
    """curves: metric, value. Of all who answered, how many are among the first tenths by score."""
    with mpl.rc_context(_STYLE):
        found = [0.0, *_points(curves, "found to tenth")]
        figure, axes = _drawn()
        reached = np.linspace(0, 100, len(found))
        axes.plot([0, 100], [0, 100], ":", color="#666666", label="at random")
        axes.plot(reached, 100 * np.array(found), "o-", color=COLOURS[2], label="best first")
        axes.set(title="Lift: found among the best", xlabel="% of rows", ylabel="% of positives", xlim=(0, 100), ylim=(0, 102))
        axes.legend(frameon=False, fontsize=9)
        return svg(
            figure, f"Among the best tenth {found[1]:.0%} of the positives, among the best three tenths {found[min(3, len(found) - 1)]:.0%}"
        )


def _points(curves: pd.DataFrame, name: str) -> list[float]:
    own = curves[curves.metric.str.startswith(name)]
    order = own.metric.str.rpartition(" ")[2].astype(int)
    return [float(each) for each in own.value.to_numpy()[np.argsort(order.to_numpy())]]


def fan(name: str, past: pd.DataFrame, foretold: pd.DataFrame) -> str:
    """past: day, units. foretold: day, mean and quantiles (a list of level and units) of one series."""
    with mpl.rc_context(_STYLE):
        ordered = foretold.sort_values("day")
        days = pd.to_datetime(ordered.day)
        levels = _levels(ordered)
        figure, axes = _drawn()
        if len(past):
            before = past.assign(day=pd.to_datetime(past.day)).set_index("day").units.sort_index()
            before = before.reindex(pd.date_range(before.index.min(), days.min() - pd.Timedelta(days=1)), fill_value=0.0)
            axes.plot(before.index, before.to_numpy(), color="#000000", linewidth=1, label="as it was")
        known = [float(level) for level in levels]
        for place, low in enumerate(level for level in known if level < 0.5):
            high = min(known, key=lambda level: abs(level - (1 - low)))
            if high > 0.5:
                axes.fill_between(days, levels[low], levels[high], color=COLOURS[0], alpha=0.18 + 0.12 * place, linewidth=0)
        axes.plot(days, ordered["mean"], "--", color=COLOURS[1], label="foretold, on average")
        axes.set(title=name[:48].replace("$", r"\$"), ylim=(0, None))
        axes.legend(frameon=False, fontsize=9)
        axes.xaxis.set_major_locator(AutoDateLocator(maxticks=5))  # type: ignore[no-untyped-call]
        return svg(figure, f"Demand for {name}: {ordered['mean'].sum():.0f} units foretold over {len(days)} days")


def _levels(ordered: pd.DataFrame) -> dict[float, list[float]]:
    """Level, rising → units of each day."""
    days = [{each["level"]: each["units"] for each in quantiles} for quantiles in ordered.quantiles]
    return {level: [day[level] for day in days] for level in sorted(days[0])}
