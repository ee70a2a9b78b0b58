"""sessions → vocabulary and sequences; and, for demand, series beside them."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from datetime import datetime, timedelta
from functools import reduce

from pyspark.sql import DataFrame, Row
from pyspark.sql import functions as F

from foretaste.contract import FIRST_INDEX, SPLITS
from foretaste.errors import SettingsError
from foretaste.settings import SequenceSettings, Settings
from foretaste.steps import quality
from foretaste.steps.changes import changes_since, identity
from foretaste.steps.report import StepReport
from foretaste.steps.series import wants_series, write_series
from foretaste.tables import Warehouse, campaigns, sequences, vocabulary
from foretaste.tables.campaigns import CAMPAIGNS
from foretaste.tables.contacts import NO_CAMPAIGNS, Campaigns
from foretaste.tables.items import ITEMS
from foretaste.tables.sequences import SEQUENCES, Bounds
from foretaste.tables.sessions import SESSIONS
from foretaste.tables.vocabulary import VOCABULARY

_EPOCH = datetime(1970, 1, 1)
_REBUILT_FOR = ("settings", "vocabulary", "campaigns", "controlled", "columns")


@dataclass(frozen=True, kw_only=True)
class _Changes:
    """Of sessions that changed and started before `until`; later ones are in none of the rows that are there.

    users: whose they are, one row each; earliest: when the first of them started, UTC; datetime.max if there are none
    bounds: the splits of the rows that are there
    """

    until: datetime
    users: DataFrame
    num_users: int
    earliest: datetime
    bounds: Bounds


def sequence(warehouse: Warehouse, settings: Settings) -> StepReport:
    """Sequences, and series where a task of the settings reads them."""
    report = _sequence(warehouse, settings)
    if not wants_series(settings):
        return report
    beside = write_series(warehouse, settings, sequences.bounds(warehouse.read(SESSIONS), settings.sequences))
    return replace(report, written={**report.written, **beside.written}, notes=(*report.notes, *beside.notes))


def _sequence(warehouse: Warehouse, settings: Settings) -> StepReport:
    """Vocabulary and sequences as the sessions now have them, equal to a full rebuild; only splits and cuts that change are written."""
    wanted = settings.followed_sequences
    version = warehouse.version(SESSIONS) if warehouse.exists(SESSIONS) else None
    sessions = warehouse.read(SESSIONS, version)
    before = warehouse.built_from(SEQUENCES)
    built_from: dict[str, object] = {
        "sessions": version,
        "sessions_id": identity(warehouse, SESSIONS),
        "settings": json.loads(wanted.model_dump_json()),
        "followed_days": wanted.followed // timedelta(days=1),
        "campaigns": warehouse.version(CAMPAIGNS) if warehouse.exists(CAMPAIGNS) else None,
        "columns": SEQUENCES.names,
    }
    if before and all(before.get(name) == value for name, value in built_from.items()) and _is_at(warehouse, before):
        return StepReport(step="sequence", read={"sessions": sessions.count()}, notes=("nothing new since the last run",))

    controlled = _controlled(warehouse, sessions)
    built_from["controlled"] = controlled
    splits = sequences.bounds(sessions, wanted)
    changes = _changes(warehouse, before, built_from, wanted, splits) if before.get("settings") == built_from["settings"] else None
    words = _vocabulary(warehouse, sessions, wanted, splits, before, changes)
    built_from |= {"vocabulary": warehouse.version(VOCABULARY), "splits": json.loads(json.dumps(asdict(splits), default=str))}
    warnings = quality.unknown_items(sessions, words, settings.quality.unknown_items)
    asked = campaigns_of(warehouse, words, controlled)
    if changes is None or any(before.get(name) != built_from[name] for name in _REBUILT_FOR):
        rows = sequences.build(sessions, words, wanted, splits, campaigns=asked, num_files=_num_files(warehouse))
        with warehouse.rows_per_group(wanted.rows_per_group):
            warehouse.overwrite(SEQUENCES, sequences.shuffled(rows, wanted), built_from)
        note = f"all rows written anew: {_reason(before, built_from)}" if before else "all rows written"
    else:
        note = _renew(warehouse, sessions, words, wanted, splits, changes, built_from, asked)
    counts = warehouse.read(SEQUENCES).groupBy("split", "cut").agg(F.count("*").alias("rows")).orderBy("split", "cut").collect()
    return StepReport(
        step="sequence",
        read={"sessions": sessions.count()},
        written={"vocabulary": words.count(), "sequences": sum(row["rows"] for row in counts)},
        notes=(note, *warnings, _summary(counts, wanted, splits)),
    )


def _is_at(warehouse: Warehouse, before: Mapping[str, object]) -> bool:
    """Whether the vocabulary is still the one that the rows were written with."""
    return warehouse.exists(VOCABULARY) and warehouse.version(VOCABULARY) == before.get("vocabulary")


def _reason(before: Mapping[str, object], now: Mapping[str, object]) -> str:
    changed = [name for name in _REBUILT_FOR if before.get(name) != now[name]]
    return f"{' and '.join(changed)} changed" if changed else "what changed in sessions is not known any more"


def _changes(
    warehouse: Warehouse, before: Mapping[str, object], now: Mapping[str, object], settings: SequenceSettings, splits: Bounds
) -> _Changes | None:
    known = before.get("splits")
    if not isinstance(known, dict) or set(known) != {field.name for field in fields(Bounds)}:
        return None
    bounds = Bounds(**{name: datetime.fromisoformat(moment) for name, moment in known.items()})
    until = min(splits.until, bounds.until) if settings.protocol == "global_time" else splits.until  # else rows wait for what follows
    started = F.unix_micros("started_at")
    is_within = started <= (until - _EPOCH) // timedelta(microseconds=1)
    asked = F.count_distinct(F.when(is_within, F.col("user_id"))), F.min(F.when(is_within, started))
    found = changes_since(warehouse, SESSIONS, ["user_id", "started_at"], before, now, *asked)
    if found is None:
        return None
    changed, (num_users, earliest) = found
    return _Changes(
        until=until,
        users=changed.where(is_within).select("user_id").distinct(),
        num_users=num_users,
        earliest=datetime.max if earliest is None else _EPOCH + timedelta(microseconds=earliest),
        bounds=bounds,
    )


def _vocabulary(
    warehouse: Warehouse,
    sessions: DataFrame,
    settings: SequenceSettings,
    splits: Bounds,
    before: Mapping[str, object],
    changes: _Changes | None,
) -> DataFrame:
    """The vocabulary as it now is; a new version only where it differs. Not even fitted where no session of training time changed."""
    same_time = changes is not None and changes.bounds.fitted_until == splits.fitted_until <= changes.earliest
    if same_time and _is_at(warehouse, before):
        return warehouse.read(VOCABULARY)
    fitted = vocabulary.build(sessions, settings, splits.fitted_until).persist()
    try:
        if vocabulary.sizes(fitted).num_items == FIRST_INDEX:
            raise SettingsError(
                f"no item occurs {settings.min_item_count} times before {splits.fitted_until} in the events that enter sequences",
                where="sequences",
                fix="Lower sequences.min_item_count, or widen sequences.event_types.",
            )
        if not warehouse.exists(VOCABULARY) or not _equal(warehouse.read(VOCABULARY), fitted):
            warehouse.overwrite(VOCABULARY, fitted.coalesce(1).orderBy("field", "index"))
    finally:
        fitted.unpersist()
    return warehouse.read(VOCABULARY)


def _renew(
    warehouse: Warehouse,
    sessions: DataFrame,
    words: DataFrame,
    settings: SequenceSettings,
    splits: Bounds,
    changes: _Changes,
    built_from: Mapping[str, object],
    asked: Campaigns,
) -> str:
    """Writes the splits anew whose bounds moved, and of the others those cuts in which a row of a user whose sessions changed differs.

    Rows lie in a mixed order, so that a few users' rows are in nearly every file of a split and cut: it is written whole or not at all.
    A later end of test time has rows of new moments, and those of earlier ones that could not be followed long enough yet.
    """
    by_time = settings.protocol != "leave_one_out"  # else an event may move those before it into other splits, and no bound moves
    moved = [split for split in SPLITS if by_time and splits.moved(changes.bounds, split)]
    recent = _recent(settings, splits, changes.bounds, asked) if "test" not in moved else None
    is_recent = F.lit(False) if recent is None else F.expr(_later_than(recent))
    reached, since = _reached(settings, splits, changes, [split for split in SPLITS if split not in moved], asked)
    if not changes.num_users and not moved and recent is None:
        return f"no row differs: no session changed that started before {changes.until}"

    old, num_files = warehouse.read_as_it_is(SEQUENCES), _num_files(warehouse)
    own = sessions.join(changes.users, on="user_id", how="left_semi")
    theirs = sequences.build(own, words, settings, splits, reached, asked, num_files).persist()
    may_differ = ~is_recent & F.expr(f"as_of >= {_literal(since)}")
    try:
        partly = []
        if reached:
            before = old.where(F.col("split").isin(reached) & may_differ).join(changes.users, on="user_id", how="left_semi")
            before, now = before.select(*SEQUENCES.names), theirs.where(may_differ)
            differing = now.exceptAll(before).unionByName(before.exceptAll(now))
            partly = sorted((row.split, row.cut) for row in differing.select("split", "cut").distinct().collect())
        parts = []  # each laid out in the partitions that become its files
        if moved:
            parts.append(sequences.build(sessions, words, settings, splits, moved, asked, num_files))
        if recent is not None:
            parts.append(sequences.build(sessions, words, settings, splits, ["test"], asked, num_files, after=recent))
        if partly:
            touched = F.array(*[F.lit(f"{split} {cut}") for split, cut in partly])
            is_touched = F.array_contains(touched, F.concat_ws(" ", "split", "cut")) & ~is_recent
            others = old.where(is_touched).join(changes.users, on="user_id", how="left_anti").select(*SEQUENCES.names)
            parts.append(sequences.filed(others.unionByName(theirs.where(is_touched)), settings, num_files))
        if not parts:
            return f"no row of {changes.num_users:,} users whose sessions changed differs"
        rows = reduce(DataFrame.unionByName, parts)
        replaced = [f"split = '{split}'" for split in moved] + [f"(split = '{split}' AND cut = '{cut}')" for split, cut in partly]
        replaced += [] if recent is None else [f"({_later_than(recent)})"]
        with warehouse.rows_per_group(settings.rows_per_group):
            warehouse.replace_where(SEQUENCES, sequences.shuffled(rows, settings), " OR ".join(replaced), built_from)
    finally:
        theirs.unpersist()
    notes = [f"{split} for its new bounds" for split in moved] + [f"{split} at {cut}s" for split, cut in partly]
    notes += [] if recent is None else [f"test after {recent}"]
    told = f"{changes.num_users:,} users have sessions that changed; " if changes.num_users else ""
    return f"{told}written anew: {', '.join(notes)}"


def _reached(
    settings: SequenceSettings, splits: Bounds, changes: _Changes, those: Sequence[str], asked: Campaigns
) -> tuple[Sequence[str], datetime]:
    """In which of those splits a row of a user whose sessions changed may differ, and since which moment."""
    ends = {"train": splits.valid_from, "valid": splits.test_from, "test": datetime.max}
    reached = [split for split in those if changes.earliest < ends[split] or settings.protocol == "leave_one_out"]
    if reached != ["test"] or settings.protocol != "global_time":
        return reached, datetime.min  # a split's last window is where a user's events end, so that a later one may take an early row away
    since = changes.earliest - settings.followed
    return reached if asked.ids or sequences.newest(settings, splits) >= since else [], since


def _recent(settings: SequenceSettings, splits: Bounds, before: Bounds, asked: Campaigns) -> datetime | None:
    """After which moment a later end of test time changes rows of users that did nothing; None where it changes none."""
    moment = before.until - settings.followed  # until then each row was followed as long as it is now
    if settings.protocol != "global_time" or splits.until == before.until:
        return None
    return moment if asked.ids or sequences.newest(settings, splits) > moment else None


def _later_than(moment: datetime) -> str:
    return f"split = 'test' AND as_of > {_literal(moment)}"


def _literal(moment: datetime) -> str:
    return f"timestamp_micros({(moment - _EPOCH) // timedelta(microseconds=1)})"


def _controlled(warehouse: Warehouse, sessions: DataFrame) -> list[str]:
    """The ids of campaigns that anybody was left out of at random, rising."""
    if not warehouse.exists(CAMPAIGNS):
        return []
    contacts = sessions.where(F.array_contains("event_type", "control"))
    told = contacts.select(F.explode(F.arrays_zip("event_type", "campaign_id")).alias("event"))
    ids = told.where("event.event_type = 'control' AND event.campaign_id IS NOT NULL").select("event.campaign_id").distinct()
    return sorted(row.campaign_id for row in ids.collect())


def campaigns_of(warehouse: Warehouse, vocabulary: DataFrame, controlled: Sequence[str] = ()) -> Campaigns:
    """The campaigns that there are, in this vocabulary's numbers. controlled: those with a control group, where rows are to be of it"""
    if not warehouse.exists(CAMPAIGNS):
        return NO_CAMPAIGNS
    items = warehouse.read(ITEMS) if warehouse.exists(ITEMS) else warehouse.spark.createDataFrame([], ITEMS.ddl)
    return campaigns.described(warehouse.read(CAMPAIGNS), items, vocabulary, controlled)


def _equal(one: DataFrame, other: DataFrame) -> bool:
    return one.exceptAll(other).isEmpty() and other.exceptAll(one).isEmpty()


def _num_files(warehouse: Warehouse) -> int:
    return int(warehouse.spark.conf.get("spark.sql.shuffle.partitions") or 1)


def _summary(counts: Sequence[Row], settings: SequenceSettings, splits: Bounds) -> str:
    rows = ", ".join(f"{row.split} {row['rows']:,} at {row.cut}s" for row in counts)
    if settings.protocol == "leave_one_out":
        return f"a user's last event is test, the one before it validation: {rows}"
    return f"{settings.protocol}, training before {splits.valid_from}, validation before {splits.test_from}, test after: {rows}"
