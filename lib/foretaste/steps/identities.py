"""Who users are in the tables: under their own ids, or under pseudonyms, and who of them was erased."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from foretaste.errors import SettingsError
from foretaste.settings import PrivacySettings
from foretaste.sources.pseudonyms import Pseudonyms, read_key, renamed
from foretaste.tables import Warehouse, erasures, user_ids
from foretaste.tables.erasures import ERASURES
from foretaste.tables.events import EVENTS
from foretaste.tables.user_ids import USER_IDS

ERASED = "erased"
"""The reason why a record of an erased user is left out: it is counted, and kept nowhere."""

_FINGERPRINT = "foretaste.pseudonyms"


class Identities:
    """Of one deployment; opened by ingest and erase alone, since it opens the vault.

    vault: where quarantine and user_ids lie; the warehouse itself, without user_ids, where ids stay as they are
    """

    def __init__(self, warehouse: Warehouse, settings: PrivacySettings) -> None:
        """SettingsError where the key is missing, or not the one by which the warehouse's users have their pseudonyms."""
        asked = settings.pseudonyms
        self._warehouse = warehouse
        self._pseudonyms: Pseudonyms | None = read_key(warehouse.spark, asked.key) if asked else None
        self.vault = Warehouse(warehouse.spark, asked.vault, private=True) if asked else warehouse
        if asked and self.vault.lies_in(warehouse):
            raise SettingsError(
                "the vault is the warehouse itself, or a folder of it, which everybody reads",
                where="privacy.pseudonyms.vault",
                fix="Name a place of its own.",
            )
        self._check_key()

    def _check_key(self) -> None:
        if not self._warehouse.exists(EVENTS):
            return
        before = self._warehouse.property(EVENTS, _FINGERPRINT)
        now = self._pseudonyms.fingerprint if self._pseudonyms else None
        if before == now:
            return
        if before is None:
            what, fix = "the table events holds users' own ids", "Ingest into a new warehouse, or leave privacy.pseudonyms out."
        elif now is None:
            what, fix = "the table events holds pseudonyms", "Name their key and vault, or ingest into a new warehouse."
        else:
            what, fix = "the table events holds pseudonyms of another key", "Name the key that it was begun with."
        raise SettingsError(what, where="privacy.pseudonyms", fix=fix)

    def create_events(self) -> None:
        """The table, with the mark of the key."""
        if not self._warehouse.exists(EVENTS):
            marks = {_FINGERPRINT: self._pseudonyms.fingerprint} if self._pseudonyms else {}
            self._warehouse.create(EVENTS, marks)

    def known(self, judged: DataFrame) -> DataFrame:
        """Judged records under the ids that the tables have."""
        return renamed(judged, self._pseudonyms) if self._pseudonyms else judged

    def in_tables(self, users: DataFrame) -> DataFrame:
        """user_id, as the tables have it. users: user_id, as the shop has it"""
        return users.select(self._pseudonyms.of(F.col("user_id")).alias("user_id")) if self._pseudonyms else users

    def without_erased(self, judged: DataFrame) -> DataFrame:
        """Judged records; those of erased users are refused as `erased`, and carry nothing of what they were."""
        if not self._warehouse.exists(ERASURES) or self._warehouse.read(ERASURES).isEmpty():
            return judged
        stored = self._pseudonyms.of(F.col("user_id")) if self._pseudonyms else F.col("user_id")
        gone = F.broadcast(self._warehouse.read(ERASURES).select(F.col("digest").alias("_erased")))
        told = judged.withColumn("_digest", erasures.digest(stored)).join(gone, on=F.col("_digest") == F.col("_erased"), how="left")
        is_erased = F.col("_erased").isNotNull()
        hidden = {name: F.when(~is_erased, F.col(name)) for name in judged.columns if name not in ("source", "source_file", "reason")}
        reason = F.when(is_erased, F.lit(ERASED)).otherwise(F.col("reason"))
        return told.withColumns({**hidden, "reason": reason}).select(*judged.columns)

    def keep(self, judged: DataFrame) -> None:
        """Writes down in the vault whose pseudonym is which, of the judged records that are events."""
        if self._pseudonyms is None:
            return
        users = judged.where("reason IS NULL").select("user_id").distinct()
        pairs = users.withColumn("pseudonym", self._pseudonyms.of(F.col("user_id")))
        self.vault.insert_new(USER_IDS, user_ids.build(pairs))
