"""sessions: runs of one user's events without a long pause."""

from foretaste.tables.table import Column, Table

SESSIONS = Table(
    name="sessions",
    comment="One row per session: a run of one user's events that no long pause and no change of the source's own session id breaks",
    columns=(
        Column(name="user_id", type="string", comment="whose session it is", required=True),
        Column(name="session_id", type="string", comment="a hash of user, first event's time and source session id", required=True),
        Column(name="started_at", type="timestamp", comment="time of its first event, UTC", required=True),
        Column(name="ended_at", type="timestamp", comment="time of its last event, UTC", required=True),
        Column(name="num_events", type="int", comment="how many events it has", required=True),
        Column(name="event_time", type="array<timestamp>", comment="its events' times, oldest first; ties by event_id", required=True),
        Column(name="item_id", type="array<string>", comment="its events' items, in the same order", required=True),
        Column(name="event_type", type="array<string>", comment="its events' types, in the same order", required=True),
        Column(name="price", type="array<double>", comment="its events' unit prices, in the same order", required=True),
        Column(name="category", type="array<string>", comment="its events' category paths, in the same order", required=True),
    ),
    key=("user_id", "session_id"),
    checks={"ends_after_start": "ended_at >= started_at", "not_empty": "num_events > 0"},
    clustered_by=("user_id", "started_at"),
    change_feed=True,
)
