"""a model that writes rows → synthetic_sequences, and how they compare with real ones."""

import difflib
import time
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from foretaste import registry
from foretaste.contract import SCALARS
from foretaste.counting.attributes import combinations, hours_of_week, most_frequent, most_frequent_code
from foretaste.counting.popularity import events_of_items
from foretaste.errors import ModelError, SettingsError
from foretaste.feed.pin import pin, rows_of
from foretaste.feed.snapshot import divided
from foretaste.models.conditions import WITH, WITHOUT
from foretaste.scoring.synthesis import ASKED, WRITTEN, AskedOfRows, Attributes, Wishes, WriteRows
from foretaste.settings import Settings, SynthesisSettings
from foretaste.steps.appraisal import appraised
from foretaste.steps.likeness import Sets
from foretaste.steps.planning import APART
from foretaste.steps.report import StepReport
from foretaste.stored_model import StoredModel
from foretaste.tables import Warehouse, synthetic_sequences
from foretaste.tables.sequences import SEQUENCES, offsets
from foretaste.tables.synthetic_sequences import SYNTHETIC_SEQUENCES, split_of
from foretaste.tasks import TASKS

ROWS_A_FILE = 50_000
LEAST_FILES = 16  # as sequences has, so that a few ranks can share them
MOMENTS = 1000  # real ones, of which each written row gets one
MOST_WISHES = 100_000


def synthesize(warehouse: Warehouse, settings: Settings) -> StepReport:
    """Writes `synthesis.rows` rows by the champion of the task. A rerun by the same version replaces its own rows, and no others."""
    chosen = settings.synthesis
    model = _writer(warehouse, chosen)
    _check(model, chosen)
    started = time.monotonic()
    version = model.tables[SEQUENCES.name]
    learnt, apart = (rows_of(warehouse, part) for part in divided(pin(warehouse, "train", TASKS[model.task].train_cut, version), APART))
    wishes = wishes_of(learnt, model, settings)
    numbers = warehouse.spark.range(0, chosen.rows, numPartitions=max(LEAST_FILES, -(-chosen.rows // ROWS_A_FILE)))
    writer = WriteRows(
        root=warehouse.path, name=model.name, version=model.version, batch_size=chosen.batch_size, seed=chosen.seed, wishes=wishes
    )
    run_at, split = datetime.now(UTC), split_of(model.task, model.version)
    rows = synthetic_sequences.build(
        numbers.mapInArrow(writer, WRITTEN), task=model.task, model=model.name, model_version=model.version, at=run_at
    )
    warehouse.replace_where(SYNTHETIC_SEQUENCES, rows, f"split = '{split}'")
    seconds = time.monotonic() - started
    written = warehouse.read(SYNTHETIC_SEQUENCES).where(F.col("split") == split)
    notes = [
        f"{chosen.rows:,} rows by {model.name} version {model.version} ({model.model['name']}), seed {chosen.seed}; {seconds:.0f} s, "
        f"{chosen.rows / seconds:,.0f} rows/s; they are split '{split}' of synthetic_sequences, and of no other table"
    ]
    if chosen.report:
        notes += appraised(warehouse, settings, model, Sets(synthetic=written, learnt=learnt, apart=apart), run_at)
    return StepReport(
        step="synthesize",
        read={"rows that it learnt from": learnt.count()},
        written={SYNTHETIC_SEQUENCES.name: written.count()},
        notes=tuple(notes),
    )


def _writer(warehouse: Warehouse, chosen: SynthesisSettings) -> StoredModel:
    """The champion, or the newest version of the kind that is asked for. ModelError where there is none."""
    if chosen.model is None:
        return registry.load(warehouse.path, chosen.task)
    for version in reversed(registry.versions(warehouse.path, chosen.task)):
        stored = registry.load(warehouse.path, chosen.task, version)
        if stored.model["name"] == chosen.model:
            return stored
    raise ModelError(
        f"no version of {chosen.task} is a {chosen.model}",
        where="synthesis.model",
        fix=f"Train one: tasks.{chosen.task}.model.name: {chosen.model}.",
    )


def _check(model: StoredModel, chosen: SynthesisSettings) -> None:
    """SettingsError for what the model never learnt to heed: it would answer with what an untrained vector happens to say."""
    kind, features = model.model["name"], model.model["features"]
    asked = {"category": chosen.category is not None, "campaign": chosen.campaign is not None, "cold": chosen.cold > 0}
    for name in (name for name, is_asked in asked.items() if is_asked and kind != "gan"):
        raise SettingsError(f"a {kind} heeds nothing but a budget", where=f"synthesis.{name}", fix="Leave it out, or let a gan write.")
    if asked["campaign"] and "event" not in features:
        raise SettingsError(
            "the model reads no events' types, and knows of no campaign",
            where="synthesis.campaign",
            fix=f"Leave it out, or train one with `event` among tasks.{model.task}.model.features.",
        )


def wishes_of(learnt: DataFrame, model: StoredModel, settings: Settings) -> Wishes:
    """What real rows would have been asked for as the model sees them, unless the settings say otherwise. As large as the vocabulary."""
    chosen, num_items = settings.synthesis, model.sizes.num_items
    goes_with = combinations(learnt, ("category", "price"))
    category = most_frequent(goes_with, "category", num_items)
    seen = [name for name in ("item", "event") if name in model.model["features"]]
    asked = learnt.select(*seen, *SCALARS).mapInArrow(AskedOfRows(category_of_item=category), ASKED)
    joint = asked.groupBy("budget", "category", "campaign").count().orderBy(F.desc("count")).limit(MOST_WISHES).toPandas()
    columns = {name: joint[name].to_numpy(dtype=np.int64) for name in ("budget", "category", "campaign")}
    for name, value in (
        ("budget", chosen.budget),
        ("category", _category(model, chosen)),
        ("campaign", None if chosen.campaign is None else WITH if chosen.campaign else WITHOUT),
    ):
        if value is not None:
            columns[name] = np.full_like(columns[name], value)
    moments = (
        learnt.orderBy(F.xxhash64("user_id", "as_of")).limit(MOMENTS).select(F.unix_micros("as_of").alias("as_of"), "recency").toPandas()
    )
    return Wishes(
        **columns,
        weight=joint["count"].to_numpy(dtype=np.float64),
        cold=_cold(learnt, chosen.cold_below) if chosen.cold else np.zeros(0, dtype=np.int64),
        cold_share=chosen.cold,
        as_of=moments["as_of"].to_numpy(dtype=np.int64),
        recency=moments["recency"].to_numpy(dtype=np.int32),
        attributes=Attributes.of(*(goes_with[name].to_numpy(dtype=np.int64) for name in ("item", "category", "price", "count"))),
        hours=hours_of_week(learnt),
        event=most_frequent_code(learnt, "event") or 1,
        zone=offsets(settings.sequences.time_zone),
    )


def _category(model: StoredModel, chosen: SynthesisSettings) -> int | None:
    """The code of the category that the settings name. SettingsError for one that the model does not know."""
    if chosen.category is None:
        return None
    vocabulary = model.vocabulary().to_pandas()
    known = vocabulary[vocabulary.field == "category"].set_index("value")["index"]
    if chosen.category not in known:
        close = difflib.get_close_matches(chosen.category, list(known.index), n=3)
        raise SettingsError(
            f"the model knows no category {chosen.category!r}",
            where="synthesis.category",
            fix=f"Did you mean {' or '.join(close)}?" if close else "Use one of the vocabulary's.",
        )
    return int(known[chosen.category])


def _cold(learnt: DataFrame, below: int) -> NDArray[np.int64]:
    """The items with fewer events than that."""
    few = events_of_items(learnt).where(F.col("events") < below).select("item").toPandas()
    return np.sort(few["item"].to_numpy(dtype=np.int64))
