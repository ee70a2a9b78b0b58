"""Whose names the tables hold, and how somebody is taken out of them again."""

from datetime import timedelta
from typing import Annotated

from pydantic import Field

from foretaste.settings.data import WarehouseSettings
from foretaste.settings.fields import Duration, Strict


class PseudonymSettings(Strict):
    """Ids of users (and of sessions, and a source's own event ids) become HMAC-SHA-256 of them at ingest.

    key: where the key lies, never the key itself: `env:NAME` of the machine that starts the job, or `secret:SCOPE/NAME` on Databricks
    vault: a warehouse of its own that ingest and erase alone open: which pseudonym is whose, and the records in quarantine, as they were
    """

    key: Annotated[str, Field(pattern=r"^(env:[A-Za-z_][A-Za-z0-9_]*|secret:[\w.@-]+/[\w.@-]+)$")]
    vault: WarehouseSettings


class EraseSettings(Strict):
    """users: a file with a user's id, as the shop has it, in each line; wait: for jobs that were running, at most"""

    users: str | None = None
    wait: Duration = timedelta(hours=1)


class PrivacySettings(Strict):
    """pseudonyms: ids stay as the shop has them unless given; erase: what jobs/erase.py reads"""

    pseudonyms: PseudonymSettings | None = None
    erase: EraseSettings = EraseSettings()
