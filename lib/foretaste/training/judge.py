"""How well a model does on validation rows, as sums that ranks add up: each row counts once, and no process holds them all."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from foretaste.contract import FIRST_INDEX, PAD, WAITS, Batch, answers_of
from foretaste.models import Blend, DeepAR, Model

ITEMS_AT_ONCE = 8192  # columns of the (B, items) scores that are held at a time
CUTOFF = 20
SMALLEST = 1e-12


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """metrics: by name; value: the one that stops early, the larger the better; calibration: of a binary head."""

    metrics: Mapping[str, float]
    value: float
    calibration: Mapping[str, float] | None = None


class Judge(Protocol):
    """sums: float64, on the CPU, whatever the number of rows."""

    sums: Tensor

    def add(self, model: Model | Blend, batch: Batch[Tensor]) -> None: ...

    def verdict(self) -> Verdict | None:
        """None where there was no row to judge by."""
        ...


def together(verdicts: Mapping[str, Verdict], weights: Mapping[str, float]) -> Verdict:
    """Of several tasks: a hundredth more of one's metric is worth what a hundredth less of another's loss is, each times its weight.

    Names of metrics and of calibrations begin with the task's; each task's own value is among them.
    """
    metrics: dict[str, float] = {}
    lines: dict[str, float] = {}
    value = 0.0
    for task, verdict in verdicts.items():
        metrics |= {f"{task}.{name}": number for name, number in verdict.metrics.items()} | {f"{task}.value": verdict.value}
        lines |= {f"{task}.{name}": number for name, number in (verdict.calibration or {}).items()}
        value += weights[task] * math.copysign(1.0, verdict.value) * math.log(max(abs(verdict.value), SMALLEST))
    return Verdict(metrics=metrics, value=value, calibration=lines)


def judge_for(head: str, label: str, *, leave_out_seen: bool = False, days: int = 0) -> Judge:
    """days: of a head of contract.WAITS, within which somebody comes or not"""
    if head == "counts":
        return CountsJudge()
    if head == "items":
        return ItemsJudge(label, leave_out_seen=leave_out_seen)
    return BinaryJudge(label, head=head, days=days)


class ItemsJudge:
    """The rank of the first item of the horizon among ALL items, ties against the model. It stops on the mean reciprocal rank.

    Rows whose horizon is empty are left out. An item that the vocabulary does not hold cannot be ranked: it is a miss.
    leave_out_seen: items of the row's history are no candidates, the target apart
    """

    def __init__(self, label: str, *, leave_out_seen: bool = False) -> None:
        self.label, self.leave_out_seen = label, leave_out_seen
        self.sums = torch.zeros(4, dtype=torch.float64)  # rows, reciprocal ranks, discounted gains and hits within CUTOFF

    def add(self, model: Model | Blend, batch: Batch[Tensor]) -> None:
        target = batch.labels[self.label][:, 0].long()
        rows = float((target != PAD).sum())
        self.sums[0] += rows
        known = (target >= FIRST_INDEX).nonzero().squeeze(1)
        if len(known) == 0:
            return
        told, target = batch.map(lambda array: array.index_select(0, known)), target[known]  # nothing is asked of the others
        seen = told.item if self.leave_out_seen else None
        if isinstance(model, Blend):
            ranks = ranks_among(model.score(told), target, seen).double().cpu()
        else:
            ranks = ranks_of(model.represent(told), *model.item_weights(), target, seen).double().cpu()
        within = ranks <= CUTOFF
        gains = torch.where(within, 1 / torch.log2(ranks + 1), torch.zeros_like(ranks))
        self.sums[1:] += torch.stack([(1 / ranks).sum(), gains.sum(), within.double().sum()])

    def verdict(self) -> Verdict | None:
        rows, reciprocal, gain, hits = self.sums.tolist()
        if rows == 0:
            return None
        metrics = {"mrr": reciprocal / rows, f"ndcg@{CUTOFF}": gain / rows, f"recall@{CUTOFF}": hits / rows, "rows": rows}
        return Verdict(metrics=metrics, value=metrics["mrr"])


def ranks_of(states: Tensor, weights: Tensor, bias: Tensor, target: Tensor, seen: Tensor | None = None) -> Tensor:
    """1 + how many other items do not score less than the target: ties count against it, and so does a NaN.

    states (B, D), weights (I, D), bias (I,), target (B,), seen (B, T) items that do not count → (B,), in blocks of items.
    """
    own = (states * weights[target]).sum(1) + bias[target]
    above = torch.zeros_like(target)
    for start in range(0, len(weights), ITEMS_AT_ONCE):
        block = slice(start, start + ITEMS_AT_ONCE)
        scores = torch.addmm(bias[block], states, weights[block].T)  # (B, ITEMS_AT_ONCE)
        inside = ((target >= start) & (target < start + scores.shape[1])).nonzero().squeeze(1)
        scores[inside, target[inside] - start] = -torch.inf  # rounding must not set an item above itself
        if seen is not None:
            row, column = ((seen >= start) & (seen < start + scores.shape[1])).nonzero(as_tuple=True)
            scores[row, seen[row, column].long() - start] = -torch.inf
        above += scores.shape[1] - (scores < own[:, None]).sum(1)
    return 1 + above


def ranks_among(scores: Tensor, target: Tensor, seen: Tensor | None = None) -> Tensor:
    """The same from the (B, I) scores of all items."""
    own = scores.gather(1, target[:, None])  # (B, 1)
    above = ~(scores < own)
    if seen is not None:
        above = above.scatter(1, seen.long(), False)
    return 1 + above.scatter(1, target[:, None], False).sum(1)


LOWEST, HIGHEST, BIN_WIDTH = -20.0, 20.0, 0.01
NUM_BINS = round((HIGHEST - LOWEST) / BIN_WIDTH)


class CountsJudge:
    """The negative log-likelihood of a day of the horizon, given the days before it: nats. It stops on that."""

    def __init__(self) -> None:
        self.sums = torch.zeros(3, dtype=torch.float64)  # rows, days, nats

    def add(self, model: Model | Blend, batch: Batch[Tensor]) -> None:
        assert isinstance(model, DeepAR)
        losses = model.horizon_losses(batch)
        self.sums += torch.tensor([len(losses), losses.numel(), float(losses.double().sum())], dtype=torch.float64)

    def verdict(self) -> Verdict | None:
        rows, days, nats = self.sums.tolist()
        return Verdict(metrics={"nats": nats / days, "rows": rows}, value=-nats / days) if rows else None


class BinaryJudge:
    """The log loss, on which it stops, with accuracy, ROC-AUC and a calibration from a fine histogram of logits.

    Of a head "uplift" it is that of what came in each row's own arm, without a calibration: its score is a difference of two of those.

    head, days: of a head of contract.WAITS, labels are turned into answers for so many days, and rows that do not tell are left out
    """

    def __init__(self, label: str, *, head: str = "binary", days: int = 0) -> None:
        self.label, self.head, self.days = label, head, days
        self.sums = torch.zeros(4, NUM_BINS, dtype=torch.float64)  # a bin's zeros, its ones, the sum of its logits, of its losses

    def add(self, model: Model | Blend, batch: Batch[Tensor]) -> None:
        if self.head == "uplift":
            assert isinstance(model, Model)
            logits = model.factual(batch).double().cpu()  # (B,)
        else:
            logits = model.score(batch).double().cpu()
        labels = batch.labels[self.label].cpu()
        if self.head in WAITS:
            answers = answers_of(self.head, labels, self.days)
            logits, labels = logits[answers >= 0], answers[answers >= 0]
        labels = labels.double()
        bins = ((logits.nan_to_num().clamp(LOWEST, HIGHEST) - LOWEST) / BIN_WIDTH).long().clamp(max=NUM_BINS - 1)
        losses = torch.nn.functional.binary_cross_entropy_with_logits(logits, labels, reduction="none")
        for row, values in zip(self.sums, (1 - labels, labels, logits, losses), strict=True):
            row.index_add_(0, bins, values)

    def verdict(self) -> Verdict | None:
        zeros, ones, logits, losses = self.sums
        rows = float(zeros.sum() + ones.sum())
        if rows == 0:
            return None
        used = (zeros + ones) > 0
        mean_logit = logits[used] / (zeros + ones)[used]
        right = torch.where(mean_logit > 0, ones[used], zeros[used]).sum()
        metrics = {
            "log_loss": float(losses.sum()) / rows,
            "roc_auc": _roc_auc(zeros, ones),
            "accuracy": float(right) / rows,
            "rate": float(ones.sum()) / rows,
            "rows": rows,
        }
        calibration = None if self.head == "uplift" else platt(mean_logit, zeros[used], ones[used])
        return Verdict(metrics=metrics, value=-metrics["log_loss"], calibration=calibration)


def _roc_auc(zeros: Tensor, ones: Tensor) -> float:
    """The chance that a one scores above a zero, half for the same bin; 0.5 where there is only one kind. (bins,), lowest first."""
    pairs = float(zeros.sum() * ones.sum())
    below = zeros.cumsum(0) - zeros
    return float((ones * (below + zeros / 2)).sum()) / pairs if pairs else 0.5


def platt(logits: Tensor, zeros: Tensor, ones: Tensor) -> dict[str, float]:
    """Slope and intercept such that sigmoid(slope · logit + intercept) is the probability of a one.

    logits, zeros, ones: (bins,) float64. Newton's method with halved steps and Platt's priors on the targets, which keep it
    finite where the classes are separable (Lin, Lin & Weng 2007, A note on Platt's probabilistic outputs).
    """
    num_zeros, num_ones = float(zeros.sum()), float(ones.sum())
    rows = zeros + ones
    targets = (ones * (num_ones + 1) / (num_ones + 2) + zeros / (num_zeros + 2)) / rows
    design = torch.stack([logits, torch.ones_like(logits)], dim=1)  # (bins, 2)
    solution = torch.tensor([0.0, math.log((num_ones + 1) / (num_zeros + 1))], dtype=torch.float64)

    def loss(line: Tensor) -> float:
        z = design @ line
        return float((rows * (torch.nn.functional.softplus(z) - targets * z)).sum())

    for _ in range(100):
        p = torch.sigmoid(design @ solution)
        gradient = design.T @ (rows * (p - targets))
        hessian = design.T @ (design * (rows * p * (1 - p))[:, None]) + 1e-9 * torch.eye(2, dtype=torch.float64)
        step = torch.linalg.solve(hessian, gradient)
        scale, before = 1.0, loss(solution)
        while scale > 1e-10 and loss(solution - scale * step) > before:
            scale /= 2
        solution = solution - scale * step
        if float(step.abs().max()) < 1e-9:
            break
    return {"slope": float(solution[0]), "intercept": float(solution[1])}
