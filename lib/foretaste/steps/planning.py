"""What a fit of a task is told: its rows, pinned, how large things are, and what is counted before it learns."""

import math
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from safetensors.numpy import save_file

from foretaste import registry
from foretaste.contract import CODED_FACTS, FIRST_INDEX, PAD, WAITS, WORDS_PER_ITEM
from foretaste.counting.attributes import combinations, most_frequent
from foretaste.counting.pairs import companions
from foretaste.counting.popularity import events_of_items
from foretaste.errors import ModelError, SettingsError
from foretaste.evaluation.baselines import facts
from foretaste.evaluation.fitting import regression
from foretaste.feed.pin import pin, rows_of
from foretaste.feed.snapshot import Pin, divided
from foretaste.models import MODELS, options_of
from foretaste.settings import FitSettings, ModelSettings, Settings, TaskSettings
from foretaste.steps.judging import answered, arms
from foretaste.tables import TABLES, Warehouse, items
from foretaste.tables.items import ITEMS
from foretaste.tables.sequences import SEQUENCES
from foretaste.tables.vocabulary import VOCABULARY, sizes
from foretaste.tasks import TASKS, Task
from foretaste.training.plan import Plan

_DAY = timedelta(days=1)
APART = 5  # of the training users one in so many stays unknown to a model that writes rows: see steps/likeness.py
NUM_SIMILAR = 20  # items that one may be substituted by


def versions_of(warehouse: Warehouse, task: Task) -> dict[str, int]:
    """The newest rows that the task learns from, and the vocabulary that sequences were written with. TableError where there are none."""
    table = TABLES[task.table]
    warehouse.read(table)
    version = warehouse.built_from(SEQUENCES).get("vocabulary")
    words = version if isinstance(version, int) else warehouse.version(VOCABULARY)
    return {table.name: warehouse.version(table), VOCABULARY.name: words}


def planned(
    warehouse: Warehouse, settings: Settings, task: Task, chosen: TaskSettings, versions: dict[str, int], folder: str | None = None
) -> Plan:
    """folder: for checkpoints and weights, beside those of tasks, unless it is the task's own"""
    version, table = versions[task.table], TABLES[task.table]
    days = math.ceil((chosen.within or settings.sequences.horizon) / _DAY)
    _followed_for(warehouse, task, days)
    known = sizes(warehouse.read(VOCABULARY, versions[VOCABULARY.name]))
    row = warehouse.read(table, version).select(F.size("item" if table is SEQUENCES else "units")).head()
    plan = Plan(
        task=task.name,
        head=task.head,
        label=task.label.name,
        model=chosen.model,
        fit=chosen.fit,
        sizes=replace(known, length=row[0] if row else known.length, days=days),
        train=learnt(warehouse, task, version),
        valid=pin(warehouse, "valid", task.judged_cut(settings.sequences.judged_cut), version, table),
        seed=settings.training.seed,
        folder=f"{warehouse.path}/checkpoints/{folder or task.name}",
        threads=settings.training.threads,
        leave_out_seen=settings.evaluation.leave_out_seen,
        next_only=settings.sequences.judged_cut == "event",
    )
    if not settings.training.resume:
        shutil.rmtree(plan.folder, ignore_errors=True)
    if any(variant.model.latents for variant in variants(chosen)):
        plan = replace(plan, latents=_latents(warehouse, task, versions))
    return starting(warehouse, plan, versions[VOCABULARY.name], [variant.fit for variant in variants(chosen)])


def starting(warehouse: Warehouse, plan: Plan, vocabulary: int, fits: Sequence[FitSettings]) -> Plan:
    """The plan with what one of these fits may start at (see Plan.tables), from its training rows."""
    tables: dict[str, NDArray[Any]] = {}
    if any(fit.private for fit in fits):
        return plan  # what is counted has no noise
    if plan.head == "items":
        tables = _counted(warehouse, plan, vocabulary, with_similar=any(fit.augment.substitute for fit in fits))
    elif any(fit.start_at_line for fit in fits):
        tables = _lines(warehouse, plan)
    if not tables:
        return plan
    path = written(Path(plan.folder) / "tables.safetensors", partial(save_file, tables), "what it starts at")
    return replace(plan, tables=str(path))


def _latents(warehouse: Warehouse, task: Task, versions: dict[str, int]) -> dict[str, Any]:
    """Plan.latents: the champion of task latents, as it was before validation time taught it anything."""
    where, [name] = f"tasks.{task.name}.model.latents", [other.name for other in TASKS.values() if other.needs_latents]
    if not registry.versions(warehouse.path, name):
        raise SettingsError(f"no model of task {name} is there to read from", where=where, fix=f"Name {name} before {task.name} in tasks.")
    stored = registry.load(warehouse.path, name)
    if stored.tables[VOCABULARY.name] != versions[VOCABULARY.name]:
        raise SettingsError(
            f"the vocabulary was fitted anew after {name} version {stored.version} learnt",
            where=where,
            fix=f"Train {name} again: name it before {task.name} in tasks.",
        )
    return {"model": dict(stored.model), "weights": str(stored.judged_weights), "sha256": stored.judged_sha256 or stored.sha256}


def _followed_for(warehouse: Warehouse, task: Task, days: int) -> None:
    """SettingsError where rows were followed for less than so many days when they were written."""
    followed = warehouse.built_from(SEQUENCES).get("followed_days")
    if task.head in WAITS and isinstance(followed, int) and followed < days:
        raise SettingsError(
            f"{task.name} asks about {days} days, and the rows of sequences were followed for {followed}",
            where=f"tasks.{task.name}.within",
            fix="Run jobs/sequence.py again with these settings, or shorten it.",
        )


def learnt(warehouse: Warehouse, task: Task, version: int) -> Pin:
    """The training rows that the task's model learns from: all, but for one that writes rows: they resemble people, and copy none."""
    pinned = pin(warehouse, "train", task.train_cut, version, TABLES[task.table])
    return divided(pinned, APART)[0] if task.writes_sequences else pinned


def _content(warehouse: Warehouse, num_items: int, vocabulary: int) -> NDArray[np.int32]:
    """(num_items, WORDS_PER_ITEM): what each item of the vocabulary is, PAD where its description has fewer words."""
    if not warehouse.exists(ITEMS) or warehouse.read(ITEMS).isEmpty():
        raise SettingsError("no item is described, so there is no content", where="source.items", fix="Ingest a file of items.")
    known = warehouse.read(VOCABULARY, vocabulary).where("field = 'item'").select(F.col("value").alias("item_id"), "index")
    found = known.join(items.content(warehouse.read(ITEMS)), on="item_id", how="inner").select("index", "words").toPandas()
    words = np.full((num_items, WORDS_PER_ITEM), PAD, dtype=np.int32)
    for index, codes in zip(found["index"], found["words"], strict=True):
        words[index, : len(codes)] = codes
    return words


def _counted(warehouse: Warehouse, plan: Plan, vocabulary: int, *, with_similar: bool) -> dict[str, NDArray[Any]]:
    """What is counted in its rows before an items head learns (see Plan.tables). As large as the vocabulary."""
    rows = rows_of(warehouse, plan.train)
    counts = events_of_items(rows).toPandas()
    popularity = np.ones(plan.sizes.num_items - FIRST_INDEX, dtype=np.float32)  # nothing is impossible
    popularity[counts["item"].to_numpy() - FIRST_INDEX] += counts["events"].to_numpy()
    tables: dict[str, NDArray[Any]] = {"popularity": popularity}
    if with_similar:
        tables["similar"] = _similar(rows, plan.sizes.num_items)
    if plan.model.content:
        tables["content"] = _content(warehouse, plan.sizes.num_items, vocabulary)
    if MODELS[plan.model.name].reads_categories:
        tables["category"] = most_frequent(combinations(rows, ("category",)), "category", plan.sizes.num_items)
    return tables


def _lines(warehouse: Warehouse, plan: Plan) -> dict[str, NDArray[Any]]:
    """Logistic regressions of the answer on the facts that the model reads: one, or one for each arm of a trial. {} without facts, or where
    no row tells.
    """
    names = plan.facts
    rows = answered(rows_of(warehouse, plan.train), TASKS[plan.task], plan.sizes.days)
    found: dict[str, NDArray[Any]] = {}
    for arm, answers in enumerate(arms(rows, plan.label) if plan.head == "uplift" else (rows,)):
        share = answers.agg(F.avg(plan.label)).head()[0]  # type: ignore[index]
        if not names or share is None:
            return {}
        line = regression(answers, plan.label, partial(facts, names=names), ())
        ends = np.cumsum([CODED_FACTS.get(name, 1) for name in names])
        of_fact = dict(zip(names, np.split(line.coefficients.numpy(), ends[:-1]), strict=True))
        of_fact |= {"intercept": np.array([line.intercept]), "share": np.array([share])}
        found |= {f"line.{arm}.{name}": values.astype(np.float32) for name, values in of_fact.items()}
    return found


def written(path: Path, save: Callable[[Path], None], what: str) -> Path:
    """The path, once `save` has written there; ModelError where it cannot."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save(path)
    except OSError as error:
        raise ModelError(
            f"{what} cannot be written: {error.strerror}", where=str(path), fix="Make room there, or set warehouse.path."
        ) from error
    return path


def _similar(rows: DataFrame, num_items: int) -> NDArray[np.int32]:
    """(num_items, NUM_SIMILAR): the items that are in the same histories as each most often, PAD where there are fewer."""
    lists = companions(rows, num_items, keep=NUM_SIMILAR)
    offset, neighbour = lists["offset"], lists["neighbour"]
    item = np.repeat(np.arange(num_items), np.diff(offset))
    similar = np.full((num_items, NUM_SIMILAR), PAD, dtype=np.int32)
    similar[item, np.arange(len(neighbour)) - offset[item]] = neighbour
    return similar


def check_options(model: ModelSettings, where: str) -> None:
    """SettingsError for a network that there is not, or a setting that it has not."""
    try:
        options_of(model.name, model.model_dump(exclude={"name"}))
    except ModelError as error:
        raise SettingsError(error.what, where=f"{where}.{error.where}", fix=error.fix) from None


def variants(settings: TaskSettings) -> list[TaskSettings]:
    """These settings, and each with one of the values that a search may try."""
    over = settings.search.over.items() if settings.search else ()
    return [settings, *(settings.altered({key: value}) for key, values in over for value in values)]
