"""The tables, a file each; a table is added by its file and its line in TABLES."""

from foretaste.tables.campaigns import CAMPAIGNS
from foretaste.tables.demand import DEMAND
from foretaste.tables.erasures import ERASURES
from foretaste.tables.events import EVENTS
from foretaste.tables.items import ITEMS
from foretaste.tables.metrics import METRICS
from foretaste.tables.promotions import PROMOTIONS
from foretaste.tables.quarantine import QUARANTINE
from foretaste.tables.scores import SCORES
from foretaste.tables.sequences import SEQUENCES
from foretaste.tables.series import SERIES
from foretaste.tables.sessions import SESSIONS
from foretaste.tables.synthetic_sequences import SYNTHETIC_SEQUENCES
from foretaste.tables.table import Table
from foretaste.tables.user_ids import USER_IDS
from foretaste.tables.user_latents import USER_LATENTS
from foretaste.tables.user_segments import USER_SEGMENTS
from foretaste.tables.vocabulary import VOCABULARY
from foretaste.tables.warehouse import Warehouse

TABLES: dict[str, Table] = {
    table.name: table
    for table in (
        EVENTS,
        QUARANTINE,
        ITEMS,
        CAMPAIGNS,
        PROMOTIONS,
        SESSIONS,
        VOCABULARY,
        SEQUENCES,
        SERIES,
        SYNTHETIC_SEQUENCES,
        SCORES,
        DEMAND,
        USER_LATENTS,
        USER_SEGMENTS,
        METRICS,
        USER_IDS,
        ERASURES,
    )
}

__all__ = ["TABLES", "Table", "Warehouse"]
