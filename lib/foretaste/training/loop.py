"""The loop: one process of a fit, alone or among ranks. No Spark and no Horovod here; `workers` starts it.

Legend: a rank's batch is its share of a global batch; losses, counts and gradients are summed over ranks before they are divided,
so that any number of ranks takes the same steps.
"""

import hashlib
import math
import os
import sys
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from foretaste.contract import Batch
from foretaste.errors import TrainingError
from foretaste.feed.reader import batches
from foretaste.feed.snapshot import Pin
from foretaste.models import Loss, Model, build
from foretaste.training import checkpoints
from foretaste.training.checkpoints import Checkpoint, Checkpoints, State
from foretaste.training.judge import Verdict, judge_for
from foretaste.training.plan import Fitted, Plan
from foretaste.training.ranks import Ranks

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
        self.model: Model = build(plan.model.name, head=plan.head, label=plan.label, sizes=plan.sizes, **plan.options).to(self.device)
        self.optimizers = self.model.optimizers(learning_rate=plan.fit.learning_rate, weight_decay=plan.fit.weight_decay)
        self.checkpoints = Checkpoints(plan.folder, plan.digest)
        self.num_parameters = sum(parameter.numel() for parameter in self.model.parameters())

    def run(self) -> Fitted:
        plan = self.plan
        state, notes = self._restored()
        self.report(
            f"{plan.task}: {plan.model.name} with {self.num_parameters:,} parameters, {plan.train.num_rows:,} rows to learn from, "
            f"{plan.valid.num_rows:,} to judge by, {self.ranks.size} {'rank' if self.ranks.size == 1 else 'ranks'} on {self.device.type}"
            + (f", goes on after epoch {state.epoch}" if state.epoch else "")
        )
        for note in notes:
            self.report(f"{plan.task}: {note}")
        while state.epoch < plan.fit.epochs and (state.epoch == 0 or state.epoch - state.best_epoch < plan.fit.patience):
            state = self._epoch(state)
            if self.ranks.rank == 0:
                self.checkpoints.save(Checkpoint(state=state, tensors=checkpoints.pack(self.model, self.optimizers)))
        if state.epoch < plan.fit.epochs:
            self.report(f"{plan.task}: stopped after epoch {state.epoch}, the best was epoch {state.best_epoch}")
        return Fitted(
            weights=self._best_weights(state),
            best_epoch=state.best_epoch,
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
        state, tensors = (found.state, found.tensors) if found else (State(), checkpoints.pack(self.model, self.optimizers))
        state = State.from_json(self.ranks.broadcast(state.to_json().encode()).decode())
        checkpoints.unpack(self.ranks.broadcast(tensors), self.model, self.optimizers)
        return state, notes

    def _epoch(self, state: State) -> State:
        number, started = state.epoch + 1, time.monotonic()
        torch.manual_seed(_seed(self.plan.seed, "dropout", number, self.ranks.rank))
        loss, targets, steps = self._train(number)
        verdict = self._judge()
        seconds = time.monotonic() - started
        entry = {"epoch": number, "loss": loss, "targets": targets, "steps": steps, "seconds": seconds, **verdict.metrics}
        shown = ", ".join(f"{name} {value:.4f}" for name, value in verdict.metrics.items() if name != "rows")
        self.report(f"{self.plan.task}: epoch {number} of {self.plan.fit.epochs}, {steps} steps, loss {loss:.4f}, {shown}, {seconds:.0f} s")
        state = replace(state, epoch=number, history=(*state.history, entry))
        if verdict.value > state.best_value:
            state = replace(state, best_epoch=number, best_value=verdict.value, metrics=verdict.metrics, calibration=verdict.calibration)
        return state

    def _train(self, epoch: int) -> tuple[float, float, int]:
        """One pass over the training rows → the mean loss, the targets and the steps of all ranks."""
        self.model.train()
        fit = self.plan.fit
        total, count, step, told = 0.0, 0.0, 0, time.monotonic()
        steps = min(self.plan.train.num_rows // fit.batch_size, fit.max_steps or sys.maxsize)
        with closing(self._batches(self.plan.train, epoch=epoch, shuffle=True, drop_uneven=True)) as rows:
            for step, batch in enumerate(rows, start=1):
                self.model.noise.manual_seed(_seed(self.plan.seed, "noise", epoch, step))
                with torch.autocast("cuda", dtype=torch.bfloat16, enabled=self.device.type == "cuda"):
                    for loss in self.model.step(batch):
                        summed, targets = self._descend(loss, epoch, step)
                        total, count = total + summed, count + targets
                if time.monotonic() - told > LINE_EVERY_S:
                    told = time.monotonic()
                    self.report(f"{self.plan.task}: epoch {epoch}, step {step} of {steps}, loss {total / max(count, 1.0):.4f}")
                if step == fit.max_steps:
                    break
        if count == 0:
            raise TrainingError(
                "there is nothing to learn: no training row has a target", where=self.plan.task, fix="Lower sequences.min_item_count."
            )
        return total / count, count, step

    def _descend(self, loss: Loss, epoch: int, step: int) -> tuple[float, float]:
        """One optimizer's step on the mean over all ranks' targets → the summed loss and the count."""
        optimizer = self.optimizers[loss.optimizer]
        optimizer.zero_grad()
        loss.total.backward()  # type: ignore[no-untyped-call]
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        for parameter in parameters:
            if parameter.grad is None:  # every rank sums the same tensors
                parameter.grad = torch.zeros_like(parameter)
        gradients = [parameter.grad for parameter in parameters]
        both = torch.stack([loss.total.detach().float(), loss.count.float()])
        self.ranks.add_up([*gradients, both], f"step.{loss.optimizer}")
        summed, count = both.tolist()
        if not math.isfinite(summed):
            raise TrainingError(
                f"the loss is {summed} in epoch {epoch}, step {step}",
                where=self.plan.task,
                fix="Lower fit.learning_rate, or set fit.clip_norm to 1.",
            )
        torch._foreach_div_(gradients, max(count, 1.0))
        if self.plan.fit.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(parameters, self.plan.fit.clip_norm)
        optimizer.step()
        return summed, count

    @torch.no_grad()
    def _judge(self) -> Verdict:
        self.model.eval()
        judge = judge_for(self.plan.head, self.plan.label)
        with closing(self._batches(self.plan.valid, epoch=0, shuffle=False, drop_uneven=False)) as rows:
            for batch in rows:
                judge.add(self.model, batch)
        self.ranks.add_up([judge.sums], "judge")
        verdict = judge.verdict()
        if verdict is None:
            raise TrainingError(
                "no validation row has anything to judge by",
                where=self.plan.task,
                fix="Set sequences.valid_from earlier, so that validation time has more events.",
            )
        if not math.isfinite(verdict.value):
            raise TrainingError(
                "the scores are not finite", where=self.plan.task, fix="Lower fit.learning_rate, or set fit.clip_norm to 1."
            )
        return verdict

    def _batches(self, pin: Pin, *, epoch: int, shuffle: bool, drop_uneven: bool) -> Generator[Batch[Tensor]]:
        rows = self.feed(
            pin,
            rank=self.ranks.rank,
            size=self.ranks.size,
            batch_size=self.plan.fit.batch_size,
            features=self.plan.model.features,
            labels=(self.plan.label,),
            epoch=epoch,
            seed=self.plan.seed,
            shuffle=shuffle,
            drop_uneven=drop_uneven,
        )
        with closing(rows):  # ends its threads
            for batch in rows:
                yield batch.map(lambda array: array.to(self.device, non_blocking=True))

    def _best_weights(self, state: State) -> str:
        """Leaves the best epoch's weights in the model and in the folder; the path of the file."""
        path = Path(self.plan.folder) / WEIGHTS
        if self.ranks.rank == 0:
            best = self.checkpoints.of_epoch(state.best_epoch)
            if best is None:
                raise TrainingError("the best checkpoint is gone", where=self.plan.folder, fix="Run training again.")
            checkpoints.unpack(best.tensors, self.model, {})
            checkpoints.write(path, checkpoints.pack_weights(self.model))
        return str(path)


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
