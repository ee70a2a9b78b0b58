"""events: what users did, as the sources tell it."""

from foretaste.contract import EVENT_TYPES
from foretaste.tables.table import Column, Table

_TYPES = ", ".join(f"'{name}'" for name in EVENT_TYPES)

EVENTS = Table(
    name="events",
    comment="One row per event: something one user did, once",
    columns=(
        Column(name="user_id", type="string", comment="the shop's own user id", required=True),
        Column(name="item_id", type="string", comment="the shop's own item id; null where the event has none (a search, a campaign)"),
        Column(name="event_type", type="string", comment="what was done: view, cart, purchase, …", required=True),
        Column(name="event_time", type="timestamp", comment="when, in UTC", required=True),
        Column(name="session_hint", type="string", comment="the source's own session or basket id"),
        Column(name="price", type="double", comment="unit price in the shop's currency"),
        Column(name="quantity", type="double", comment="units"),
        Column(name="category", type="string", comment="the item's category path at that time, parts joined by /"),
        Column(name="campaign_id", type="string", comment="the campaign that the event belongs to"),
        Column(name="source", type="string", comment="the name of the source that told it", required=True),
        Column(name="event_id", type="string", comment="the source's own event id, else a hash of all of the above", required=True),
    ),
    key=("source", "event_id"),
    checks={"event_type_known": f"event_type IN ({_TYPES})", "price_not_negative": "price IS NULL OR price >= 0"},
    clustered_by=("event_time", "user_id"),
    change_feed=True,
)
