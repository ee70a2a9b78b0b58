"""Fits a plan by as many ranks as were asked for, and keeps the fit going where some are lost; and tries whether ranks come up at all."""

import json
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from foretaste.errors import TrainingError
from foretaste.settings import TrainingSettings
from foretaste.training import messages, workers
from foretaste.training.loop import Report, fit
from foretaste.training.plan import Fitted, Plan
from foretaste.training.ranks import Alone
from foretaste.training.slots import check_slots, has_lost_slots, num_cores, slots_left, task_slots, threads_of

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


def launch(plan: Plan, training: TrainingSettings, spark: "SparkSession | None" = None, report: Report = print) -> Fitted:
    """Fits the plan as `training` says. A rank that dies is started again from the last checkpoint, at most `max_restarts` times.

    TrainingError where ranks cannot start or die too often; what a rank itself reports is raised here as it is.
    """
    folder = Path(plan.folder)
    if not training.resume:
        shutil.rmtree(folder, ignore_errors=True)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TrainingError(
            f"the checkpoint folder cannot be made: {error.strerror}", where=plan.folder, fix="Set warehouse.path to one you may write to."
        ) from error
    if training.launcher == "single":
        return fit(replace(plan, threads=training.threads), Alone(), report)
    notes: list[str] = []
    if training.launcher == "spark":
        if spark is None:
            raise TrainingError("there is no Spark session to start ranks in", where="training.launcher", fix="Use horovodrun or single.")
        if has_lost_slots(spark):  # in the fit before this one, perhaps
            training, notes = _as_many_as_are_left(plan, training, spark, report)
        check_slots(training.workers, lambda: task_slots(spark))
        threads = training.threads or threads_of(spark, training.workers)
    else:
        threads = training.threads or max(1, num_cores() // training.workers)
    plan = replace(plan, threads=threads, own_cores=training.own_cores, stall_s=training.stall_timeout.total_seconds())
    return _persist(plan, training, spark, report, notes)


def _persist(plan: Plan, training: TrainingSettings, spark: "SparkSession | None", report: Report, notes: list[str]) -> Fitted:
    """Runs the ranks until they end well, or a fault is theirs, or they died once too often."""
    folder = Path(plan.folder)
    times = 0
    while True:
        messages.clear(folder)
        try:
            with messages.relayed(folder, report):
                workers.run(plan.to_json(), folder, plan.threads, training, spark)
            fitted = messages.read_fitted(folder)
            return replace(fitted, notes=(*fitted.notes, *notes))
        except workers.RankLostError as error:
            messages.raise_fault(folder)
            why = _why(error, folder)
            notes.append(f"a rank was lost ({why}); training went on from the last checkpoint")
            times += 1
            if times > training.max_restarts:
                raise TrainingError(
                    f"ranks were lost {times} times, the last time: {why}",
                    where=plan.task,
                    fix=f"Read {folder / messages.OUTPUT}; more memory a worker may help. Training goes on from its last checkpoint.",
                ) from error
            report(f"{plan.task}: {notes[-1]}, restart {times} of {training.max_restarts}")
            if training.launcher == "spark" and spark is not None:
                training, more = _as_many_as_are_left(plan, training, spark, report)
                notes += more


def _as_many_as_are_left(
    plan: Plan, training: TrainingSettings, spark: "SparkSession", report: Report
) -> tuple[TrainingSettings, list[str]]:
    """`training` with as many ranks as Spark still has room for, and a note where that is fewer."""
    left = slots_left(training.workers, lambda: task_slots(spark))
    if not left:
        return training, []
    note = f"a machine is gone: {left} {'rank goes' if left == 1 else 'ranks go'} on, with the same rows a step in all"
    report(f"{plan.task}: {note}")
    return training.model_copy(update={"workers": left}), [note]


def _why(error: workers.RankLostError, folder: Path) -> str:
    """What is known of it: what a rank said that ended itself, else how it ended and what was printed last."""
    return messages.read_stall(folder) or " ".join(part for part in (str(error), messages.last_words(folder)) if part)


def try_ranks(parent: Path, training: TrainingSettings, spark: "SparkSession | None" = None) -> list[str]:
    """Starts ranks that add up their numbers and nothing else; the host of each. TrainingError where that does not come out.

    parent: a folder that all ranks see
    """
    if training.launcher == "spark" and spark is not None:
        check_slots(training.workers, lambda: task_slots(spark))
    folder = Path(tempfile.mkdtemp(prefix=".doctor-ranks-", dir=parent))
    try:
        text = json.dumps({"trial": str(folder)})
        workers.run(text, folder, 1, training, spark)
        told = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("trial-*.json"))]
    except workers.RankLostError as error:
        raise TrainingError(
            f"{training.workers} ranks could not add up their numbers: {_why(error, folder)}",
            where=f"training.launcher {training.launcher}",
            fix="Name training.network_interface (lo on one machine), and let machines reach one another on all ports.",
        ) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    wanted = training.workers * (training.workers - 1) / 2
    if [each["sum"] for each in told] != [wanted] * training.workers:
        raise TrainingError(
            f"{len(told)} of {training.workers} ranks answered, and not all with the same sum",
            where=f"training.launcher {training.launcher}",
            fix="Set warehouse.path to a folder that the driver and all workers share.",
        )
    return [str(each["host"]) for each in told]
