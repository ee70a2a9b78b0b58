"""demand: how many units of an item (or of a category) will be bought on each day of the horizon? For whoever orders stock."""

from foretaste.contract import Label
from foretaste.tasks.task import Task, Worth

DEMAND = Task(
    name="demand",
    question="How many units of this item will be bought on each day of the horizon?",
    head="counts",
    label=Label(name="units_ahead", comment="units bought on each day from as_of on, over the horizon", width=0),
    table="series",
    train_cut="calendar",
    metrics="forecast",
    baselines=("seasonal_naive", "last_value", "recent_days", "auto_ets"),
    worth=Worth(
        metric="stock_days@95%",
        times=1,
        words="days of stock on hand, where 95 % of the units that are asked for are there (less is better)",
        against=("seasonal_naive", "recent_days", "auto_ets"),
        digits=2,
    ),
)
