"""Counted models: Spark counts their tables in the rows to learn from; they lie in files where all executors find them.

Baselines are counted for one evaluation; as the model of a task, one is judged and stored as a network is.
"""

import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path

from pyspark.sql import DataFrame
from safetensors.numpy import save_file

from foretaste import registry
from foretaste.contract import Sizes
from foretaste.counting import count, learnt_from
from foretaste.counting.lists import Tables
from foretaste.errors import ModelError, SettingsError, TableError
from foretaste.evaluation.baselines import CountedBaseline
from foretaste.evaluation.passes import NUM_JUDGED, Pass
from foretaste.evaluation.ranking import FAMILIES
from foretaste.evaluation.segments import ALL
from foretaste.models import COUNTED
from foretaste.scoring.scorer import rows_at_once
from foretaste.settings import CountedSettings, Settings, TaskSettings
from foretaste.steps.judging import judge_of, judged_rows, run
from foretaste.stored_model import StoredModel
from foretaste.tables import Warehouse
from foretaste.tables.sequences import SEQUENCES
from foretaste.tables.vocabulary import VOCABULARY, sizes
from foretaste.tasks import Task

Counts = dict[str, CountedBaseline]


@contextmanager
def counted(root: str, names: Sequence[str], rows: DataFrame, sizes: Sizes, settings: CountedSettings) -> Iterator[Counts]:
    """The counted models of these names, from `rows` (counting.learnt_from). Each one's file is what the registry stores as its weights;
    it lies under `root` while the block lasts.
    """
    folder = Path(root) / "checkpoints" / f"counted-{uuid.uuid4().hex}"
    try:
        tables = count(names, rows, sizes.num_items, settings)
        yield {name: _written(folder, name, tables[name], sizes, settings) for name in names}
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _written(folder: Path, name: str, tables: Tables, sizes: Sizes, settings: CountedSettings) -> CountedBaseline:
    path = folder / f"{name}.safetensors"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        save_file(tables, path)
    except OSError as error:
        raise ModelError(
            f"the counts cannot be written: {error.strerror}", where=str(folder), fix="Make room there, or set warehouse.path."
        ) from error
    return CountedBaseline(name=name, path=str(path), sizes=sizes, options=tuple(settings.options.items()))


def check(name: str, task: Task, chosen: TaskSettings) -> None:
    """SettingsError where a counted model is asked for what it does not have, `name` being the task's."""
    model, where = chosen.model.name, f"tasks.{name}"
    if task.head != "items" or task.needs_content:
        raise SettingsError(
            f"{model} ranks items and answers nothing else", where=f"{where}.model.name", fix="Use a network for this task."
        )
    for setting in sorted(chosen.model.model_fields_set - {"name"}):
        raise SettingsError(f"{model} is counted and has no setting {setting}", where=f"{where}.model.{setting}", fix="Leave it out.")
    if chosen.search:
        raise SettingsError(f"{model} is counted, and nothing is searched", where=f"{where}.search", fix="Leave it out.")
    if not chosen.counted.smoothing:
        raise SettingsError(
            "without smoothing, what was never counted has no probability", where=f"{where}.counted.smoothing", fix="Set it to 0.001."
        )


def count_model(warehouse: Warehouse, settings: Settings, task: Task, chosen: TaskSettings, versions: Mapping[str, int]) -> StoredModel:
    """Counts the task's model, judges it on validation rows and stores it.

    With `refit` what is stored is counted once more, in validation time too; the metrics are those of the model before.
    """
    rows = warehouse.read(SEQUENCES, versions[SEQUENCES.name])
    words = warehouse.read(VOCABULARY, versions[VOCABULARY.name])
    known, name = sizes(words), chosen.model.name

    def made(refit: bool) -> AbstractContextManager[Counts]:
        return counted(warehouse.path, [name], learnt_from(rows, refit=refit), known, chosen.counted)

    def stored(weights: str, metrics: Mapping[str, float], judged: str | None = None) -> StoredModel:
        return registry.save(
            warehouse,
            name=task.name,
            task=task.name,
            head=task.head,
            label=task.label.name,
            model={"name": name, "features": list(COUNTED[name].features), **chosen.counted.options},
            sizes=known,
            weights=Path(weights),
            vocabulary=words,
            calibration=None,
            metrics=metrics,
            history=(),
            tables=versions,
            seed=settings.training.seed,
            judged=Path(judged) if judged else None,
            settings={"model": {"name": name}, "counted": chosen.counted.model_dump(mode="json"), "refit": settings.sequences.refit},
        )

    with made(refit=False) as first:
        metrics = _on_validation_rows(rows, settings, task, first[name])
        if not settings.sequences.refit:
            return stored(first[name].path, metrics)
        with made(refit=True) as again:
            return stored(again[name].path, metrics, judged=first[name].path)


def summary(stored: StoredModel, seconds: float) -> str:
    metrics = ", ".join(f"{name} {value:.4f}" for name, value in stored.metrics.items() if name != "rows")
    since = "; what ships was counted in validation time too" if stored.settings["refit"] else ""
    return f"{stored.name} version {stored.version}: {stored.model['name']}, counted, on validation rows {metrics}{since}; {seconds:.0f} s"


def _on_validation_rows(rows: DataFrame, settings: Settings, task: Task, model: CountedBaseline) -> dict[str, float]:
    """The metrics at the last cut-off, and `rows`. TableError where there is no row to judge by."""
    judging = Pass(
        judge=judge_of(settings, task),
        label=task.label.name,
        model=model.name,
        load_model=partial(_itself, model),
        replicates=1,
        seed=settings.evaluation.seed,
        batch_size=min(settings.scoring.batch_size, rows_at_once(model.sizes.num_items)),
        num_items=model.sizes.num_items,
    )
    found = run(judging, judged_rows(rows, settings, task, COUNTED[model.name].features, ("valid",))).get(("valid", ALL, model.name))
    if found is None:
        raise TableError(
            "there is no validation row to judge by", where="sequences", fix="Move sequences.valid_from and test_from so that it has some."
        )
    last = max(settings.evaluation.at)
    return {name: float(found[name][0]) for name in (f"{family}@{last}" for family in FAMILIES)} | {"rows": float(found[NUM_JUDGED][0])}


def _itself(model: CountedBaseline) -> CountedBaseline:
    return model
