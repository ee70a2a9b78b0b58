from math import log, log2

import pytest
import torch
from torch import Tensor

from foretaste.contract import Batch
from foretaste.models import Model
from foretaste.training import judge as judge_module
from foretaste.training.judge import BinaryJudge, ItemsJudge, platt, ranks_among, ranks_of

WEIGHTS = torch.eye(7)
BIAS = torch.tensor([-torch.inf, -torch.inf, 0.0, 0.0, 0.0, 0.0, 0.0])


class Told(Model):
    """Scores what it was told to."""

    def __init__(self, scores: Tensor) -> None:
        torch.nn.Module.__init__(self)
        self.scores = scores

    def represent(self, batch: Batch[Tensor]) -> Tensor:
        return self.scores

    def item_weights(self) -> tuple[Tensor, Tensor]:
        return WEIGHTS, BIAS

    def score(self, batch: Batch[Tensor]) -> Tensor:
        return self.scores


def labelled(label: str, values: Tensor) -> Batch[Tensor]:
    none = torch.zeros(len(values), dtype=torch.int32)
    return Batch(features={"item": none[:, None]}, length=none, fresh=none, recency=none, labels={label: values})


SCORES = torch.tensor(
    [
        [9.0, 9.0, 5.0, 4.0, 3.0, 2.0, 1.0],  # PAD and UNKNOWN do not count, however high
        [0.0, 0.0, 5.0, 4.0, 4.0, 4.0, 1.0],  # ties count against the target
        [0.0, 0.0, float("nan"), 4.0, 3.0, 2.0, 5.0],  # and so does what is not a number
    ]
)


@pytest.mark.parametrize("at_once", [8192, 2])
def test_ranks_count_ties_against_the_target(monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    monkeypatch.setattr(judge_module, "ITEMS_AT_ONCE", at_once)
    scores = SCORES.nan_to_num(nan=100.0)
    assert ranks_of(scores, WEIGHTS, BIAS, torch.tensor([4, 4, 6])).tolist() == [3, 4, 2]


def test_ranks_are_the_same_from_the_scores_of_all_items() -> None:
    scores = SCORES.clone()
    scores[:, :2] = -torch.inf
    assert ranks_among(scores, torch.tensor([4, 4, 6])).tolist() == [3, 4, 2]
    assert ranks_among(scores, torch.tensor([4, 4, 6]), torch.tensor([[2, 0], [3, 4], [2, 3]])).tolist() == [2, 3, 1]


def test_a_model_that_went_astray_ranks_last() -> None:
    assert ranks_of(SCORES[2:], WEIGHTS, BIAS, torch.tensor([3])).item() > 5


def test_items_metrics_by_hand() -> None:
    judge = ItemsJudge("next_items")
    judge.add(Told(SCORES[:2]), labelled("next_items", torch.tensor([[4, 9], [2, 0]])))  # ranks 3 and 1
    judge.add(Told(SCORES[:2]), labelled("next_items", torch.tensor([[0, 0], [0, 0]])))  # nothing to judge
    verdict = judge.verdict()
    assert verdict is not None
    assert verdict.metrics == pytest.approx({"mrr": (1 / 3 + 1) / 2, "ndcg@20": (1 / log2(4) + 1) / 2, "recall@20": 1.0, "rows": 2})
    assert verdict.value == verdict.metrics["mrr"]


def test_an_item_that_nobody_knows_is_a_miss() -> None:
    judge = ItemsJudge("next_items")
    judge.add(Told(SCORES[:1]), labelled("next_items", torch.tensor([[4, 9], [1, 5]])))  # rank 3, and unknown: only the first is scored
    judge.add(Told(SCORES[:2]), labelled("next_items", torch.tensor([[0, 0], [1, 0]])))
    verdict = judge.verdict()
    assert verdict is not None
    assert verdict.metrics == pytest.approx({"mrr": 1 / 9, "ndcg@20": 1 / 6, "recall@20": 1 / 3, "rows": 3})


@pytest.mark.parametrize("at_once", [8192, 2])
def test_items_of_the_history_may_be_no_candidates(monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    monkeypatch.setattr(judge_module, "ITEMS_AT_ONCE", at_once)
    batch = labelled("next_items", torch.tensor([[4], [4]]))
    batch.features["item"] = torch.tensor([[0, 2, 2, 5], [3, 5, 4, 6]], dtype=torch.int32)  # the target itself stays one
    ranks = {}
    for left_out in (False, True):
        judge = ItemsJudge("next_items", leave_out_seen=left_out)
        judge.add(Told(SCORES[:2]), batch)
        ranks[left_out] = judge.sums[1].item()
    assert ranks[False] == pytest.approx(1 / 3 + 1 / 4)  # above are 2 and 3; 2, 3 and 5
    assert ranks[True] == pytest.approx(1 / 2 + 1 / 2)  # above are 3; 2


def test_no_verdict_without_rows() -> None:
    assert ItemsJudge("next_items").verdict() is None
    assert BinaryJudge("returns").verdict() is None


def test_binary_metrics_by_hand() -> None:
    judge = BinaryJudge("returns")
    judge.add(Told(torch.tensor([log(3), -log(3)])), labelled("returns", torch.tensor([1, 1])))
    judge.add(Told(torch.tensor([0.5, -3.0])), labelled("returns", torch.tensor([0, 0])))
    verdict = judge.verdict()
    assert verdict is not None
    # Of the four pairs of a one and a zero, only (-log 3, 0.5) is the wrong way round.
    losses = [log(4 / 3), log(4), log(1 + torch.e**0.5), log(1 + torch.e**-3)]
    expected = {"log_loss": sum(losses) / 4, "roc_auc": 3 / 4, "accuracy": 2 / 4, "rate": 0.5, "rows": 4}
    assert verdict.metrics == pytest.approx(expected)
    assert verdict.value == -verdict.metrics["log_loss"]


def test_parts_add_up_to_the_whole() -> None:
    logits, labels = torch.randn(50, generator=torch.Generator().manual_seed(0)), torch.arange(50) % 2
    whole, first, second = BinaryJudge("returns"), BinaryJudge("returns"), BinaryJudge("returns")
    whole.add(Told(logits), labelled("returns", labels))
    first.add(Told(logits[:20]), labelled("returns", labels[:20]))
    second.add(Told(logits[20:]), labelled("returns", labels[20:]))
    torch.testing.assert_close(first.sums + second.sums, whole.sums)


def test_platt_finds_the_line_that_labels_were_drawn_from() -> None:
    logits = torch.linspace(-4, 4, 81, dtype=torch.float64)
    chance = torch.sigmoid(0.5 * logits - 1.0)
    line = platt(logits, zeros=1e6 * (1 - chance), ones=1e6 * chance)
    assert line == pytest.approx({"slope": 0.5, "intercept": -1.0}, abs=1e-4)


@pytest.mark.parametrize(("zeros", "ones"), [([5.0, 0.0], [0.0, 5.0]), ([5.0, 5.0], [0.0, 0.0])])
def test_platt_stays_finite_where_the_classes_are_separable(zeros: list[float], ones: list[float]) -> None:
    kind = torch.float64
    line = platt(torch.tensor([-2.0, 2.0], dtype=kind), torch.tensor(zeros, dtype=kind), torch.tensor(ones, dtype=kind))
    low, high = (1 / (1 + torch.e ** -(line["slope"] * logit + line["intercept"])) for logit in (-2, 2))
    assert low == pytest.approx(1 / 7 if sum(ones) else 1 / 12, abs=1e-3)  # Platt's prior: 1 / (zeros + 2)
    assert high == pytest.approx(6 / 7 if sum(ones) else 1 / 12, abs=1e-3)
