"""The loop: one process of a fit, alone or among ranks. No Spark and no Horovod here; `workers` starts it.

Legend: a rank's batch is its share of a global batch; losses, counts and gradients are summed over ranks before they are divided,
so that any number of ranks takes the same steps.
"""

import hashlib
import math
import os
import sys
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing, contextmanager, nullcontext
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from foretaste.contract import Batch
from foretaste.errors import DivergedError, TrainingError
from foretaste.feed.order import share
from foretaste.feed.reader import batches
from foretaste.feed.snapshot import Pin
from foretaste.models import Blend, Model, Objective, Shared, build, restored
from foretaste.training import checkpoints, footprint
from foretaste.training.augment import augmented
from foretaste.training.average import Average
from foretaste.training.checkpoints import Checkpoint, Checkpoints, State
from foretaste.training.descent import Descent
from foretaste.training.judge import Verdict, judge_for, together
from foretaste.training.plan import Fitted, Plan
from foretaste.training.private import PrivateDescent
from foretaste.training.ranks import Ranks
from foretaste.training.stalls import COMPUTING, ROWS

Report = Callable[[str], None]
Feed = Callable[..., Any]  # as feed.batches: a generator of Batch
WEIGHTS = "weights.safetensors"
LINE_EVERY_S = 20.0


def fit(plan: Plan, ranks: Ranks, report: Report, *, feed: Feed = batches) -> Fitted:
    """Fits until `epochs`, or until `patience` epochs brought nothing better; from the newest whole checkpoint if there is one.

    Only rank 0 writes and reports. TrainingError where the loss is not finite, or where there is nothing to learn or to judge by.
    """
    tell = report if ranks.rank == 0 else _silent
    with _threads(plan.threads):
        return _Fit(plan, ranks, tell, feed).run()


class _Fit:
    def __init__(self, plan: Plan, ranks: Ranks, report: Report, feed: Feed) -> None:
        self.plan, self.ranks, self.report, self.feed = plan, ranks, report, feed
        self.device = _device(ranks)
        torch.manual_seed(plan.seed)
        self.model = _model(plan)
        self.tasks = {task: (own, _part(self.model, task)) for task, own in plan.tasks.items()}
        self.similar: dict[str, Tensor | None] = {}
        for task, (own, model) in self.tasks.items():
            tables = safetensors.torch.load_file(own.tables) if own.tables else {}
            self.similar[task] = _similar(own, tables)
            if isinstance(model, Model):
                if tables and (own.head == "items" or plan.fit.start_at_line):
                    model.follow(tables)
                first, _ = share(plan.fit.batch_size, ranks.rank, ranks.size)
                model.place = (plan.fit.batch_size, first)
        self.model.to(self.device)
        self.optimizers = self.model.optimizers(learning_rate=plan.fit.learning_rate, weight_decay=plan.fit.weight_decay)
        self.steps_of = {task: max(1, own.train.num_rows // plan.fit.batch_size) for task, own in plan.tasks.items()}
        self.steps_per_epoch = min(max(self.steps_of.values()), plan.fit.max_steps or sys.maxsize)
        self.descent = Descent(plan.fit, self.optimizers, ranks, self.steps_per_epoch)
        self.private = PrivateDescent(self.descent, plan.fit.private, self.device) if plan.fit.private else None
        self.average = Average(self.model, plan.fit.average) if plan.fit.average else None
        self.bf16 = plan.fit.precision == "bf16" or (plan.fit.precision == "auto" and self.device.type == "cuda")
        self.checkpoints = Checkpoints(plan.folder, plan.digest)
        self.num_parameters = sum(parameter.numel() for parameter in self.model.parameters() if parameter.requires_grad)

    def run(self) -> Fitted:
        plan = self.plan
        state, notes = self._restored()
        self.report(
            f"{plan.name}: {'ranker' if plan.blend else plan.model.name} with {self.num_parameters:,} parameters, "
            f"{plan.train.num_rows:,} rows to learn from, "
            f"{f'{plan.valid.num_rows:,}' if plan.valid else 'none'} to judge by, "
            f"{self.ranks.size} {'rank' if self.ranks.size == 1 else 'ranks'} on {self.device.type}"
            + (f", goes on after epoch {state.epoch}" if state.epoch else "")
        )
        if state.epoch < plan.end and isinstance(self.model, Model):
            self.report(f"{plan.name}: {self._memory(self.model)}")
        for note in notes:
            self.report(f"{plan.name}: {note}")
        while state.epoch < plan.end and (state.epoch == 0 or state.epoch - state.best_epoch < plan.fit.patience):
            state = self._epoch(state)
            if self.ranks.rank == 0:
                self.checkpoints.save(Checkpoint(state=state, tensors=self._packed()))
        if state.epoch < plan.end:
            self.report(f"{plan.name}: stopped after epoch {state.epoch}, the best was epoch {state.best_epoch}")
        return Fitted(
            weights=self._best_weights(state),
            best_epoch=state.best_epoch,
            value=state.best_value,
            metrics=state.metrics,
            calibration=state.calibration,
            history=state.history,
            num_parameters=self.num_parameters,
            size=self.ranks.size,
            notes=tuple(notes),
        )

    def _restored(self) -> tuple[State, list[str]]:
        """The state to go on from. Rank 0 reads it, and all ranks start with rank 0's tensors."""
        found: Checkpoint | None = None
        notes: list[str] = []
        if self.ranks.rank == 0:
            found, notes = self.checkpoints.newest()
        state, tensors = (found.state, found.tensors) if found else (State(), self._packed())
        state = State.from_json(self.ranks.broadcast(state.to_json().encode()).decode())
        checkpoints.unpack(self.ranks.broadcast(tensors), self.model, self.optimizers, self.average)
        return state, notes

    def _packed(self) -> bytes:
        return checkpoints.pack(self.model, self.optimizers, self.average)

    def _memory(self, model: Model) -> str:
        """What a rank will need, by estimate."""
        rows = math.ceil(self.plan.fit.batch_size / self.ranks.size)
        num_items = self.plan.sizes.num_items if self.plan.head == "items" else 0
        draws = self.plan.fit.loss.objective["draws"]
        parts = footprint.estimate(model, rows=rows, length=self.plan.sizes.length, num_items=num_items, draws=draws)
        described = ", ".join(f"{name} {footprint.readable(size)}" for name, size in parts.items())
        return f"about {footprint.readable(sum(parts.values()))} a rank ({described} at most), {'bf16' if self.bf16 else 'float32'}"

    def _epoch(self, state: State) -> State:
        number, started = state.epoch + 1, time.monotonic()
        torch.manual_seed(_seed(self.plan.seed, "dropout", number, self.ranks.rank))
        losses, steps, waited = self._train(number)
        trained = time.monotonic() - started
        pace = {"steps_per_s": steps / trained, "sequences_per_s": steps * self.plan.fit.batch_size / trained, "waiting": waited / trained}
        verdict = self._judge()
        seconds = time.monotonic() - started
        metrics = verdict.metrics if verdict else {}
        entry = {"epoch": number, **losses, "steps": steps, "seconds": seconds, **pace, **metrics}
        shown = "".join(f", {name} {value:.4f}" for name, value in metrics.items() if name.split(".")[-1] not in ("rows", "value"))
        self.report(
            f"{self.plan.name}: epoch {number} of {self.plan.end}, {steps} steps, {_told(losses)}{shown}, {seconds:.0f} s, "
            f"{pace['steps_per_s']:.1f} steps/s, {pace['sequences_per_s']:,.0f} sequences/s, {pace['waiting']:.1%} of it waiting for rows"
        )
        if state.epoch == 0:
            what, size = footprint.peak(self.device)
            self.report(f"{self.plan.name}: {footprint.readable(size)} was the most {what} in epoch {number}")
        state = replace(state, epoch=number, history=(*state.history, entry))
        if verdict is None:
            return replace(state, best_epoch=number)
        if verdict.value > state.best_value or (isinstance(self.model, Model) and self.model.keeps_last):
            state = replace(state, best_epoch=number, best_value=verdict.value, metrics=verdict.metrics, calibration=verdict.calibration)
        return state

    def _train(self, epoch: int) -> tuple[dict[str, float], int, float]:
        """One pass over the training rows → each optimizer's mean loss and the targets of all; the steps; seconds without rows."""
        self.model.train()
        fit = self.plan.fit
        sums, step, waited = dict.fromkeys(self.optimizers, (0.0, 0.0)), 0, 0.0
        told = asked = time.monotonic()
        with closing(self._steps(epoch)) as rows:
            for step, batches_of in enumerate(rows, start=1):
                waited += time.monotonic() - asked
                self.model.noise.manual_seed(_seed(self.plan.seed, "noise", epoch, step))
                changed = {task: self._augmented(task, batch, epoch, step) for task, batch in batches_of.items()}
                with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.bf16):
                    for name, summed, targets in self._descended(changed, epoch, step):
                        total, count = sums[name]
                        sums[name] = (total + summed, count + targets)
                if self.average is not None:
                    self.average.follow((epoch - 1) * self.steps_per_epoch + step)
                if time.monotonic() - told > LINE_EVERY_S:
                    told = time.monotonic()
                    self.report(f"{self.plan.name}: epoch {epoch}, step {step} of {self.steps_per_epoch}, {_told(_means(sums))}")
                if step == fit.max_steps:
                    break
                asked = time.monotonic()
        means = _means(sums)
        if means["targets"] == 0:
            raise TrainingError(
                "there is nothing to learn: no training row has a target", where=self.plan.name, fix="Lower sequences.min_item_count."
            )
        return means, step, waited

    def _steps(self, epoch: int) -> Generator[dict[str, Batch[Tensor]]]:
        """The batches of each step, by task. An epoch is a pass over everybody's rows: those with fewer sit out steps, evenly spread."""
        streams = {
            task: self._batches(own, own.train, epoch=epoch, shuffle=True, drop_uneven=True) for task, (own, _) in self.tasks.items()
        }
        most = max(self.steps_of.values())
        try:
            for step in range(most):
                in_turn = [task for task, steps in self.steps_of.items() if (step + 1) * steps // most > step * steps // most]
                yield {task: next(streams[task]) for task in in_turn}
        finally:
            for stream in streams.values():
                stream.close()

    def _augmented(self, task: str, batch: Batch[Tensor], epoch: int, step: int) -> Batch[Tensor]:
        seed = _seed(self.plan.seed, "augment", epoch, step)
        fit, ranks = self.plan.fit, self.ranks
        return augmented(batch, fit.augment, self.similar[task], seed, batch_size=fit.batch_size, rank=ranks.rank, size=ranks.size)

    def _descended(self, batches_of: Mapping[str, Batch[Tensor]], epoch: int, step: int) -> Iterator[tuple[str, float, float]]:
        """A step of each optimizer on the mean over all ranks' targets → its name, the summed loss and the count."""
        if self.private is not None:
            assert isinstance(self.model, Model)
            yield "main", *self._finite(self.private.step(self.model, batches_of[self.plan.task], epoch, step), epoch, step)
            return
        for loss in self.model.step(batches_of) if isinstance(self.model, Shared) else self.model.step(batches_of[self.plan.task]):
            yield loss.optimizer, *self._finite(self.descent.step(loss, epoch, step), epoch, step)

    def _finite(self, learnt: tuple[float, float], epoch: int, step: int) -> tuple[float, float]:
        if not math.isfinite(learnt[0]):
            raise DivergedError(
                f"the loss is {learnt[0]} in epoch {epoch}, step {step}",
                where=self.plan.name,
                fix="Lower fit.learning_rate, or set fit.clip_norm to 1.",
            )
        return learnt

    def _judge(self) -> Verdict | None:
        """Of several tasks, all together; None without validation rows."""
        with self.average.in_place() if self.average is not None else nullcontext():
            verdicts = {task: self._judge_task(own, model, own.valid) for task, (own, model) in self.tasks.items() if own.valid}
        if len(self.tasks) == 1:
            return verdicts.get(self.plan.task)
        return together(verdicts, {task: own.weight for task, (own, _) in self.tasks.items()}) if verdicts else None

    @torch.no_grad()
    def _judge_task(self, plan: Plan, model: Model | Blend, valid: Pin) -> Verdict:
        self.model.eval()
        judge = judge_for(plan.head, plan.label, leave_out_seen=plan.leave_out_seen, days=plan.sizes.days)
        watched = model if isinstance(model, Model) and model.num_observed else None
        observed = torch.zeros(watched.num_observed if watched else 0, dtype=torch.float64)
        with closing(self._batches(plan, valid, epoch=0, shuffle=False, drop_uneven=False)) as rows:
            for batch in rows:
                judge.add(model, batch)
                if watched:
                    observed += watched.observe(batch)
        self.ranks.add_up([judge.sums, *([observed] if watched else [])], "judge")
        health = watched.health(observed) if watched else None
        if health and health.ailment:
            raise DivergedError(health.ailment, where=plan.task, fix="Lower fit.learning_rate, or choose another size or loss.")
        verdict = judge.verdict()
        if verdict is None:
            raise TrainingError(
                "no validation row has anything to judge by",
                where=plan.task,
                fix="Set sequences.valid_from earlier, so that validation time has more events.",
            )
        if health:
            verdict = replace(verdict, metrics={**verdict.metrics, **health.metrics})
        if not math.isfinite(verdict.value):
            raise DivergedError("the scores are not finite", where=plan.task, fix="Lower fit.learning_rate, or set fit.clip_norm to 1.")
        return verdict

    def _batches(self, plan: Plan, pin: Pin, *, epoch: int, shuffle: bool, drop_uneven: bool) -> Generator[Batch[Tensor]]:
        rows = self.feed(
            pin,
            rank=self.ranks.rank,
            size=self.ranks.size,
            batch_size=plan.fit.batch_size,
            features=plan.features,
            labels=(plan.label,),
            facts=plan.facts,
            epoch=epoch,
            seed=plan.seed,
            shuffle=shuffle,
            drop_uneven=drop_uneven,
        )
        self.ranks.doing(ROWS)
        with closing(rows):  # ends its threads
            for batch in rows:
                self.ranks.doing(COMPUTING)
                yield batch.map(lambda array: array.to(self.device, non_blocking=True))
                self.ranks.doing(ROWS)
        self.ranks.doing(COMPUTING)

    def _best_weights(self, state: State) -> str:
        """Leaves the best epoch's weights in the model and in the folder; the path of the file."""
        path = Path(self.plan.folder) / WEIGHTS
        if self.ranks.rank == 0:
            best = self.checkpoints.of_epoch(state.best_epoch)
            if best is None:
                raise TrainingError("the best checkpoint is gone", where=self.plan.folder, fix="Run training again.")
            checkpoints.unpack(best.tensors, self.model, {}, self.average)
            if self.average is not None:
                self.average.settle()
            checkpoints.write(path, checkpoints.pack_weights(self.model))
        return str(path)


def _means(sums: Mapping[str, tuple[float, float]]) -> dict[str, float]:
    """`loss`, or `loss of …` each of several optimizers, of those that had something to learn; and the `targets` of them all."""
    several = len(sums) > 1
    learnt = {name: total / count for name, (total, count) in sums.items() if count}
    means = {f"loss of {name}" if several else "loss": mean for name, mean in learnt.items()}
    return {**means, "targets": sum(count for _, count in sums.values())}


def _told(means: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.4f}" for name, value in means.items() if name != "targets")


@lru_cache(maxsize=1)
def fitted_network(plan: str, weights: str) -> Model:
    """The network of a plan, as JSON, with the weights that its fit ended with: remembered, since each worker asks for it often."""
    model = _model(Plan.from_json(plan))
    model.load_state_dict(safetensors.torch.load_file(weights))
    assert isinstance(model, Model)
    return model.eval().requires_grad_(False)


def _model(plan: Plan) -> Model | Blend | Shared:
    """What is to be fitted, as it starts."""
    if plan.companions:
        parts = {task: _model(own) for task, own in plan.tasks.items()}
        weights = {task: own.weight for task, own in plan.tasks.items()}
        return Shared({task: part for task, part in parts.items() if isinstance(part, Model)}, weights)
    if plan.blend is None:
        objective = Objective(**plan.fit.loss.objective)
        network = build(plan.model.name, head=plan.head, label=plan.label, sizes=plan.sizes, objective=objective, **plan.options)
        if plan.latents and network.reader is not None:
            network.reader.load_state_dict(safetensors.torch.load_file(plan.latents["weights"]))
        return network
    model = restored(plan.blend, head=plan.head, label=plan.label, sizes=plan.sizes)
    assert isinstance(model, Blend)
    assert plan.start is not None
    model.load_state_dict(safetensors.torch.load_file(plan.start))
    return model


def _part(model: Model | Blend | Shared, task: str) -> Model | Blend:
    return model.part(task) if isinstance(model, Shared) else model


def _similar(plan: Plan, tables: dict[str, Tensor]) -> Tensor | None:
    """The table that items are substituted by, where they are."""
    if plan.fit.augment.substitute == 0:
        return None
    if "similar" not in tables:
        raise TrainingError(
            "there is no table of items that come together", where="fit.augment.substitute", fix="Set it to 0, or train by jobs/train.py."
        )
    return tables["similar"]


def _silent(line: str) -> None:
    pass


def _seed(*parts: object) -> int:
    """A seed of its own for each use, the same on every machine."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:8], "big") >> 1


def _device(ranks: Ranks) -> torch.device:
    """The rank's own GPU, or the CPU where the machine has none."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    if ranks.local_rank >= torch.cuda.device_count():
        raise TrainingError(
            f"{ranks.local_rank + 1} ranks on a machine with {torch.cuda.device_count()} GPUs",
            where="training.workers",
            fix="Start as many ranks as there are GPUs, or hide them with CUDA_VISIBLE_DEVICES= to train on the CPU.",
        )
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # the same sums in the same order each time
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.cuda.set_device(ranks.local_rank)
    return torch.device("cuda", ranks.local_rank)


@contextmanager
def _threads(number: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(number or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
