"""sessions and each task's model → scores: every user, in one commit a task, and scores_flat over them."""

import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from foretaste import registry
from foretaste.contract import SCALARS
from foretaste.errors import SettingsError, TableError
from foretaste.scoring.latents import LATENTS, LatentsOfUsers
from foretaste.scoring.launches import ACTIVITY_FACTS, ACTIVITY_FEATURES, ScoreLaunches
from foretaste.scoring.reasons import Reasons
from foretaste.scoring.udf import ABOUT, SCORED, Fallback, ScoreUsers
from foretaste.settings import Settings
from foretaste.steps import launches, shortlists
from foretaste.steps.filters import Filtering, filtering
from foretaste.steps.foretelling import foretell
from foretaste.steps.report import StepReport
from foretaste.steps.sequence import campaigns_of
from foretaste.stored_model import StoredModel
from foretaste.tables import Warehouse, scores, sequences, user_latents
from foretaste.tables.contacts import Campaigns
from foretaste.tables.demand import DEMAND
from foretaste.tables.scores import SCORES
from foretaste.tables.series import SERIES
from foretaste.tables.sessions import SESSIONS
from foretaste.tables.user_latents import USER_LATENTS
from foretaste.tables.vocabulary import VOCABULARY
from foretaste.tasks import TASKS

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def score(warehouse: Warehouse, settings: Settings) -> StepReport:
    """Scores every user with an event at or before `as_of`, for each task of the settings. A rerun replaces its own run."""
    if not settings.tasks:
        raise SettingsError("no task is configured, so there is nothing to score", where="tasks", fix=f"Add one of {', '.join(TASKS)}.")
    models = [registry.load(warehouse.path, name) for name in settings.tasks]  # all of them, before anything is written
    shortlists.check(settings.scoring, models)
    version = warehouse.version(SESSIONS) if warehouse.exists(SESSIONS) else None
    sessions = warehouse.read(SESSIONS, version)
    as_of = _utc(settings.scoring.as_of) if settings.scoring.as_of else _last_event(sessions)
    written: dict[str, int] = {}
    notes = [f"as of {as_of:%Y-%m-%d %H:%M:%S} UTC"]
    for model in models:
        started = time.monotonic()
        if TASKS[model.task].table == SERIES.name:
            of_run = {"as_of": as_of, "task": model.task, "model": model.name, "model_version": model.version, "at": datetime.now(UTC)}
            num_rows, note = foretell(warehouse, settings, model, as_of, of_run)
            written[f"{DEMAND.name} of {model.task}"] = num_rows
            notes.append(f"{model.task}: {note}; {time.monotonic() - started:.1f} s")
            continue
        read = partial(_histories, warehouse, settings, model=model, as_of=as_of)
        histories = read(sessions)
        asked = settings.scoring.filters.given if model.head == "items" and model.launch is None else {}
        filtered = filtering(warehouse, settings.scoring.filters, histories, sessions, model, as_of) if asked else None
        data_version = f"sessions@{version} vocabulary@{model.tables[VOCABULARY.name]}"
        run: dict[str, Any] = {
            "as_of": as_of,
            "task": model.task,
            "model": model.name,
            "model_version": model.version,
            "data_version": data_version,
            "at": datetime.now(UTC),
        }
        condition = scores.run_condition(model.task, as_of)
        closed = filtered.filters.closed if filtered else None
        with shortlists.shortlisted(warehouse, settings.scoring, sessions, read, model, closed) as listing:
            if model.launch is not None:
                scored = _launched(warehouse, settings, histories, model, as_of)
            else:
                scored = _scored(warehouse, settings, histories, model, filtered, listing.path if listing else None)
            warehouse.replace_where(SCORES, scores.build(scored, filters=asked, **run), condition)
        if TASKS[model.task].needs_latents:
            latents = histories.mapInArrow(LatentsOfUsers(**_stored(warehouse, settings, model)), LATENTS)
            warehouse.replace_where(USER_LATENTS, user_latents.build(latents, **run), condition)
            written[f"user_latents of {model.task}"] = warehouse.read(USER_LATENTS).where(condition).count()
        seconds = time.monotonic() - started
        users, fallbacks = _counts(warehouse.read(SCORES).where(condition))
        written[f"scores of {model.task}"] = users
        notes.append(
            f"{model.task}: {users:,} users by {model.name} version {model.version} ({model.model['name']}), "
            f"{fallbacks:,} of them without usable history; {seconds:.1f} s, {users / seconds:,.0f} users/s"
        )
        notes += [f"{model.task}: {of_task.note}" for of_task in (filtered, listing) if of_task]
    notes.append(scores.publish_flat(warehouse, *([DEMAND] if warehouse.exists(DEMAND) else [])))
    return StepReport(step="score", read={"users": max(written.values())}, written=written, notes=tuple(notes))


def _utc(moment: datetime) -> datetime:
    """A time without a zone is UTC."""
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)


def _last_event(sessions: DataFrame) -> datetime:
    """In UTC, by whole microseconds: a collected timestamp would come in the machine's own time zone."""
    last = sessions.agg(F.unix_micros(F.max("ended_at"))).head()[0]  # type: ignore[index]
    if last is None:
        raise TableError("there is no session to score from", where="sessions", fix="Run jobs/ingest.py and jobs/sessionize.py first.")
    return _EPOCH + timedelta(microseconds=last)


def _histories(warehouse: Warehouse, settings: Settings, sessions: DataFrame, *, model: StoredModel, as_of: datetime) -> DataFrame:
    """user_id and what the model reads. The vocabulary is the one it learnt with: a newer one gives the items other numbers."""
    vocabulary = warehouse.spark.createDataFrame(model.vocabulary().to_pandas(), schema=VOCABULARY.ddl)
    campaigns = campaigns_of(warehouse, vocabulary)  # whatever is asked: facts tell of them
    about = _asked(campaigns, settings.scoring.campaigns, as_of) if TASKS[model.task].asks_about_campaigns else ()
    active = (*ACTIVITY_FEATURES, *ACTIVITY_FACTS) if model.launch is not None else ()
    read = tuple(dict.fromkeys(("item", *model.features, *model.model.get("facts", ()), *active)))
    rows: DataFrame = sequences.latest(sessions, vocabulary, settings.sequences, as_of, campaigns, about, read)
    return rows.select("user_id", *SCALARS, *read, *((ABOUT,) if about else ()))


def _asked(campaigns: Campaigns, wanted: Sequence[str], as_of: datetime) -> Sequence[str]:
    """The campaigns that are asked about: those that are wanted, or all that are not over."""
    unknown = [name for name in wanted if name not in campaigns.ids]
    if unknown:
        raise SettingsError(f"there is no campaign {unknown[0]}", where="scoring.campaigns", fix="Ingest it first, with source.campaigns.")
    running = tuple(wanted) or [name for name, end in zip(campaigns.ids, campaigns.ends, strict=True) if end > scores.microseconds(as_of)]
    if not running:
        raise SettingsError(
            f"no campaign runs at {as_of:%Y-%m-%d %H:%M} or later", where="scoring.campaigns", fix="Ingest one, or name one that is over."
        )
    return running


def _launched(warehouse: Warehouse, settings: Settings, histories: DataFrame, model: StoredModel, as_of: datetime) -> DataFrame:
    """(user_id, targets, fallback): the new items that are asked about."""
    assert model.launch is not None
    new = launches.asked(warehouse, settings, model, as_of)
    at_once = min(settings.scoring.batch_size, launches.USERS_AT_ONCE)
    stored = {**_stored(warehouse, settings, model), "batch_size": at_once}
    users = ScoreLaunches(**stored, top_k=settings.scoring.top_k, items=new, base_rate=model.launch["base_rate"])
    found: DataFrame = histories.mapInArrow(users, SCORED)
    return found


def _scored(
    warehouse: Warehouse, settings: Settings, histories: DataFrame, model: StoredModel, filtered: Filtering | None, listed: str | None
) -> DataFrame:
    """(user_id, targets, fallback). listed: the file of the shortlists to score in place of all items"""
    top_k, filters = settings.scoring.top_k, filtered.filters if filtered else None
    fallback = Fallback.of(model, top_k, filters)
    wanted = settings.scoring.reasons
    reasons = Reasons(**wanted.model_dump()) if wanted else None
    stored = _stored(warehouse, settings, model)
    users = ScoreUsers(**stored, top_k=top_k, fallback=fallback, filters=filters, reasons=reasons, shortlists=listed)
    scored: DataFrame = (filtered.rows if filtered else histories).mapInArrow(users, SCORED)
    return _one_a_user(scored, top_k) if ABOUT in histories.columns else scored


def _one_a_user(scored: DataFrame, top_k: int) -> DataFrame:
    """The targets of a user's rows together, best first."""
    best_first = "(one, other) -> CASE WHEN one.score > other.score THEN -1 WHEN one.score < other.score THEN 1 ELSE 0 END"
    together = scored.groupBy("user_id").agg(F.flatten(F.collect_list("targets")).alias("targets"), F.max("fallback").alias("fallback"))
    by_id = together.withColumn("targets", F.array_sort("targets"))  # ties have an order, too
    return by_id.withColumn("targets", F.slice(F.expr(f"array_sort(targets, {best_first})"), 1, top_k))


def _stored(warehouse: Warehouse, settings: Settings, model: StoredModel) -> dict[str, Any]:
    """How a UDF finds the model, and how many users it takes at a time."""
    return {"root": warehouse.path, "name": model.name, "version": model.version, "batch_size": settings.scoring.batch_size}


def _counts(run: DataFrame) -> tuple[int, int]:
    """Users of a run, and how many of them got the fallback."""
    users, fallbacks = run.agg(F.count("*"), F.count_if("fallback")).head()  # type: ignore[misc]
    return users, fallbacks
