"""sequences: the examples that models learn from and are judged on."""

from foretaste.contract import FEATURES
from foretaste.tables.table import Column, Table
from foretaste.tasks import TASKS

_FEATURE_COMMENTS = {
    "item": "vocabulary indices of the items",
    "event": "codes of the event types",
    "gap": "buckets of the time since the user's previous event",
    "opens_session": "2 where an event opens a session, else 1",
    "price": "buckets of the unit prices",
    "category": "vocabulary indices of the categories",
    "hour": "1 + hour of the day",
    "weekday": "1 + day of the week, Monday first",
}

SEQUENCES = Table(
    name="sequences",
    comment="One row per example: a user's last events before as_of, and what followed within the horizon",
    columns=(
        Column(name="user_id", type="string", comment="whose history it is", required=True),
        Column(name="split", type="string", comment="train, valid or test, by global time", required=True),
        Column(name="cut", type="string", comment="window, calendar or event: how as_of was chosen", required=True),
        Column(name="as_of", type="timestamp", comment="everything in the features was known then; labels lie after it", required=True),
        Column(name="length", type="int", comment="real events at the right end of the arrays", required=True),
        Column(name="fresh", type="int", comment="rightmost events that no earlier row of this user, split and cut holds", required=True),
        Column(name="recency", type="int", comment="bucket of the time from the last event to as_of", required=True),
        *(
            Column(name=name, type="array<int>", comment=f"{_FEATURE_COMMENTS[name]}, oldest first, left-padded with 0", required=True)
            for name in FEATURES
        ),
        *(
            Column(name=task.label.name, type="array<int>" if task.label.width else "int", comment=task.label.comment, required=True)
            for task in TASKS.values()
        ),
    ),
    key=("user_id", "split", "cut", "as_of"),
    partitioned_by=("split", "cut"),
)
