"""A new version is a challenger: it takes the champion's place only where it does better on the same validation rows.

Both are judged as they were before validation time taught them anything (registry: judged weights). Where the vocabulary was fitted anew
since the champion learnt, its own numbers are put in for the rows', and an item that it never heard of is one that it cannot name.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from pyspark.sql import functions as F

from foretaste import registry
from foretaste.errors import ModelError
from foretaste.evaluation.passes import Pass
from foretaste.evaluation.segments import ALL
from foretaste.feed.pin import pin
from foretaste.feed.snapshot import divided
from foretaste.scoring.scorer import rows_at_once
from foretaste.scoring.stored import StoredScorer
from foretaste.settings import Settings
from foretaste.steps.blend import JUDGED_PART
from foretaste.steps.foretelling import judged
from foretaste.steps.judging import judge_of, judged_rows, run
from foretaste.stored_model import StoredModel
from foretaste.tables import Warehouse
from foretaste.tables.sequences import SEQUENCES
from foretaste.tables.series import SERIES
from foretaste.tables.vocabulary import VOCABULARY
from foretaste.tasks import TASKS


def crown(warehouse: Warehouse, settings: Settings, challenger: StoredModel) -> str:
    """Makes the version the champion of its name where it beats the one that is, or where there is none; what came of it, in words."""
    name, new = challenger.name, f"{challenger.name} version {challenger.version}"
    reigning = registry.champion(warehouse.path, name, before=challenger.version)
    if reigning is None:
        registry.crown(warehouse, name, challenger.version)
        return f"{new} is the champion: there was none"
    old = f"version {reigning}"
    try:
        champion = registry.load(warehouse.path, name, reigning)
        champion.network()
    except ModelError as error:
        registry.crown(warehouse, name, challenger.version)
        return f"{new} is the champion: {old} was not compared, since it cannot be read ({error.what})"
    found = _judged(warehouse, settings, challenger, champion)
    if found is None:
        registry.crown(warehouse, name, reigning)
        return f"{new} was not compared with the champion, {old}, which stays: there is no validation row that neither of them learnt from"
    headline, ours, theirs = found
    figures = f"{headline} {ours:.4f} against {theirs:.4f} on the same validation rows"
    if champion.tables[VOCABULARY.name] != challenger.tables[VOCABULARY.name]:
        figures += ", with the champion's own vocabulary"
    if ours < theirs if headline in judge_of(settings, TASKS[challenger.task]).lower_is_better else ours > theirs:
        registry.crown(warehouse, name, challenger.version)
        return f"{new} is the champion now, and {old} was: {figures}"
    registry.crown(warehouse, name, reigning)
    return f"{new} does NOT beat the champion, {old}, which stays: {figures}"


def _judged(warehouse: Warehouse, settings: Settings, challenger: StoredModel, champion: StoredModel) -> tuple[str, float, float] | None:
    """The headline metric, of the challenger and of the champion."""
    task = TASKS[challenger.task]
    version = challenger.tables[task.table]
    if task.metrics == "forecast":
        return _foretold(warehouse, settings, challenger, champion)
    rows = warehouse.read(SEQUENCES, version)
    learnt_to_blend = [
        model for model in (challenger, champion) if model.model["name"] == "blend" and model.tables[SEQUENCES.name] == version
    ]
    if learnt_to_blend:  # its ranker learnt from validation rows: all but those that were set apart
        apart = divided(pin(warehouse, "valid", settings.sequences.judged_cut, version), JUDGED_PART)[1]
        rows = rows.where(F.col("_metadata.file_path").isin([url for url, _ in apart.files]))
    same = champion.tables[VOCABULARY.name] == challenger.tables[VOCABULARY.name]
    scorers = {
        "challenger": StoredScorer(root=warehouse.path, name=challenger.name, version=challenger.version, rows_of=challenger.version),
        "champion": StoredScorer(
            root=warehouse.path, name=champion.name, version=champion.version, rows_of=champion.version if same else challenger.version
        ),
    }
    judge = judge_of(settings, task)
    judging = Pass(
        judge=judge,
        label=task.label.name,
        model="challenger",
        load_model=scorers["challenger"].itself,
        baselines={"champion": scorers["champion"]},
        replicates=1,
        seed=settings.evaluation.seed,
        batch_size=min(settings.scoring.batch_size, rows_at_once(max(challenger.sizes.num_items, champion.sizes.num_items))),
        num_items=challenger.sizes.num_items,
    )
    features = (*challenger.features, *champion.features)
    found = run(judging, judged_rows(rows, settings, task, features, ("valid",), challenger.sizes.days))
    values = [_value(found.get(("valid", ALL, name)), judge.headline) for name in scorers]
    return None if np.isnan(values).any() else (judge.headline, *values)  # type: ignore[return-value]


def _foretold(warehouse: Warehouse, settings: Settings, challenger: StoredModel, champion: StoredModel) -> tuple[str, float, float] | None:
    """The same of two models of counts."""
    rows = warehouse.read(SERIES, challenger.tables[SERIES.name]).where("split = 'valid'")
    ours, theirs = (
        StoredScorer(root=warehouse.path, name=model.name, version=model.version, rows_of=model.version) for model in (challenger, champion)
    )
    found = judged(rows, settings, challenger, ours.itself, {"champion": theirs})
    headline = judge_of(settings, TASKS[challenger.task]).headline
    values = [_value(found.get(name), headline) for name in (challenger.name, "champion")]
    return None if np.isnan(values).any() else (headline, *values)  # type: ignore[return-value]


def _value(metrics: Mapping[str, NDArray[np.float64]] | None, headline: str) -> float:
    return np.nan if metrics is None else float(metrics[headline][0])
