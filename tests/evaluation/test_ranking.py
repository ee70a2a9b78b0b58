"""Ranks and ranking metrics, against numbers worked out by hand."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from foretaste.contract import Batch
from foretaste.errors import ModelError
from foretaste.evaluation.judge import JUDGED
from foretaste.evaluation.ranking import Ranking, ranks, row_metrics

NOT = -math.inf


def batch(history: list[list[int]], targets: list[list[int]]) -> Batch[torch.Tensor]:
    ones = torch.ones(len(history), dtype=torch.int32)
    return Batch(
        features={"item": torch.tensor(history)}, length=ones, fresh=ones, recency=ones, labels={"next_items": torch.tensor(targets)}
    )


def judged(judge: Ranking, scores: list[list[float]], rows: Batch[torch.Tensor]) -> dict[str, float]:
    sums, tells = np.zeros((judge.num_sums, 1)), judge.tells(rows)
    judge.measure(torch.tensor(scores)[tells], rows.map(lambda array: array[tells])).add(sums, np.ones((int(tells.sum()), 1)))
    return {name: float(values[0]) for name, values in judge.metrics(sums).items()} | {
        "judged": sums[JUDGED, 0],
        "left_out": len(scores) - int(tells.sum()),
    }


def test_a_rank_is_one_more_than_the_others_that_score_as_high() -> None:
    scores = torch.tensor([[NOT, NOT, 5.0, 3.0, 3.0, 1.0]])
    assert ranks(scores, torch.tensor([[2, 3, 4, 5, 0]]), at_most=10).tolist() == [[1, 3, 3, 4, 0]]  # 3 and 4 tie: each counts the other


def test_ranks_beyond_the_limit_are_the_limit_and_one() -> None:
    scores = torch.tensor([[NOT, NOT, 5.0, 3.0, 3.0, 1.0]])
    assert ranks(scores, torch.tensor([[2, 3, 5]]), at_most=2).tolist() == [[1, 3, 3]]


def test_a_constant_scorer_ranks_everything_last() -> None:
    scores = torch.zeros((1, 6))
    assert ranks(scores, torch.tensor([[2]]), at_most=10).tolist() == [[6]]


@given(st.lists(st.integers(-3, 3), min_size=3, max_size=200), st.integers(1, 25))
@settings(deadline=None)
def test_ranks_equal_their_definition(values: list[int], at_most: int) -> None:
    scores = torch.tensor([[NOT, NOT, *map(float, values)]])
    target = 2 + len(values) // 2
    by_definition = 1 + sum(1 for item, score in enumerate(scores[0].tolist()) if item != target and score >= scores[0, target])
    assert ranks(scores, torch.tensor([[target]]), at_most).item() == min(by_definition, at_most + 1)


def test_a_nan_is_an_error_and_not_a_first_place() -> None:
    with pytest.raises(ModelError, match="NaN"):
        ranks(torch.tensor([[NOT, NOT, 1.0, math.nan]]), torch.tensor([[2]]), at_most=1)


def test_metrics_of_two_targets_by_hand() -> None:
    recall, hit, mrr, ndcg, hits = row_metrics(np.array([[3, 1, 0]]), at=[2])[0]
    assert (recall, hit, mrr, hits) == (0.5, 1.0, 1.0, 1.0)  # of two targets one is among the first two, at the top
    assert ndcg == pytest.approx(1.0 / (1.0 + 1 / math.log2(3)))


def test_metrics_of_one_target_at_the_third_place() -> None:
    values = row_metrics(np.array([[3]]), at=[2, 5])[0].tolist()
    assert values[:5] == [0.0, 0.0, 0.0, 0.0, 0.0]
    assert values[5:] == pytest.approx([1.0, 1.0, 1 / 3, 1 / math.log2(4), 1.0])


def test_recall_divides_by_all_targets_also_where_they_are_more_than_k() -> None:
    recall, _, _, ndcg, hits = row_metrics(np.array([[1, 2, 3, 4]]), at=[2])[0]
    assert (recall, hits) == (0.5, 2.0)
    assert ndcg == pytest.approx(1.0)  # both places are taken by targets: it could not be better


def test_a_metric_is_the_mean_over_rows_and_rows_without_a_target_are_counted_aside() -> None:
    rows = batch([[2], [2], [2]], [[2, 0], [5, 0], [0, 0]])
    found = judged(Ranking(label="next_items", at=[1, 4]), [[NOT, NOT, 4.0, 3.0, 2.0, 1.0]] * 3, rows)
    assert (found["judged"], found["left_out"]) == (2, 1)
    assert (found["recall@1"], found["recall@4"]) == (0.5, 1.0)
    assert found["mrr@4"] == pytest.approx((1 + 1 / 4) / 2)


def test_next_only_looks_at_the_first_target() -> None:
    rows = batch([[2]], [[5, 2]])
    scores = [[NOT, NOT, 4.0, 3.0, 2.0, 1.0]]
    assert judged(Ranking(label="next_items", at=[1]), scores, rows)["recall@1"] == 0.5
    assert judged(Ranking(label="next_items", at=[1], next_only=True), scores, rows)["recall@1"] == 0.0


def test_seen_items_are_neither_ranked_nor_expected() -> None:
    rows = batch([[0, 2, 3], [0, 0, 4]], [[4, 2], [4, 0]])
    judge = Ranking(label="next_items", at=[1], leave_out_seen=True)
    found = judged(judge, [[NOT, NOT, 9.0, 8.0, 7.0, 1.0]] * 2, rows)
    assert found["recall@1"] == 1.0  # 2 and 3 leave their places to 4; target 2 was seen, so 4 alone is left
    assert found["left_out"] == 1  # the second row's only target was seen


def test_a_target_that_the_vocabulary_lacks_is_a_miss() -> None:
    rows = batch([[2], [2], [2]], [[2, 1], [1, 0], [1, 1]])
    for limit in (1, 4, 50):  # whatever the number of items, and though all others are at hand
        found = judged(Ranking(label="next_items", at=[limit]), [[NOT, NOT, 4.0, 3.0, 2.0, 1.0]] * 3, rows)
        assert (found["judged"], found["left_out"]) == (3, 0)
        assert (found["num_targets"], found["num_unknown"]) == (5, 4)
        assert found[f"recall@{limit}"] == pytest.approx(0.5 / 3)
        assert found[f"hit@{limit}"] == found[f"mrr@{limit}"] == pytest.approx(1 / 3)
    assert judged(Ranking(label="next_items", at=[2], next_only=True), [[NOT, NOT, 4.0, 3.0, 2.0, 1.0]] * 3, rows)[
        "hit@2"
    ] == pytest.approx(1 / 3)


def test_an_unknown_event_of_the_history_does_not_excuse_an_unknown_target() -> None:
    found = judged(Ranking(label="next_items", at=[1], leave_out_seen=True), [[NOT, NOT, 2.0, 1.0]], batch([[0, 1]], [[1, 0]]))
    assert (found["judged"], found["recall@1"]) == (1, 0.0)


def test_what_is_never_recommended_is_missed_though_all_else_is() -> None:
    rows = batch([[2]], [[4]])
    assert judged(Ranking(label="next_items", at=[10]), [[NOT, NOT, 1.0, 0.5, NOT]], rows)["recall@10"] == 0.0


def test_coverage_and_popularity_bias_by_hand() -> None:
    shares = np.array([0.0, 0.0, 0.5, 0.3, 0.2, 0.0])
    judge = Ranking(label="next_items", at=[1, 2], shares=shares)
    rows = batch([[2], [2], [2], [2]], [[4, 5], [3, 0], [1, 0], [0, 0]])
    scores = [[NOT, NOT, 4.0, 3.0, 2.0, 1.0], [NOT, NOT, 4.0, 3.0, 2.0, 1.0], [NOT, NOT, 1.0, NOT, NOT, NOT], [NOT, NOT, 0, 0, 0, 9.0]]
    found = judged(judge, scores, rows)
    of_targets = ((0.2 + 0.0) / 2 + 0.3) / 2  # the third row's only target is unknown, the fourth has none
    assert found["popularity_bias@1"] == pytest.approx(0.5 / of_targets)
    assert found["popularity_bias@2"] == pytest.approx((0.4 + 0.4 + 0.5) / 3 / of_targets)  # the third row names one item only
    tell = slice(0, 3)
    named = judge.measure(torch.tensor(scores)[tell], rows.map(lambda array: array[tell])).recommended()
    assert {metric: set(items) - {0} for metric, items in named.items()} == {"coverage@1": {2}, "coverage@2": {2, 3}}


def test_weights_count_a_row_as_often_as_they_say() -> None:
    judge = Ranking(label="next_items", at=[1])
    sums = np.zeros((judge.num_sums, 2))
    rows = batch([[2], [2]], [[2], [5]])  # a hit and a miss
    judge.measure(torch.tensor([[NOT, NOT, 4.0, 3.0, 2.0, 1.0]] * 2), rows).add(sums, np.array([[1.0, 3.0], [1.0, 1.0]]))
    assert judge.metrics(sums)["recall@1"].tolist() == [0.5, 0.75]


def test_shuffled_labels_bring_a_perfect_model_down_to_chance() -> None:
    generator = torch.Generator().manual_seed(1)
    num_rows, num_items = 4000, 50
    target = torch.randint(2, num_items + 2, (num_rows, 1), generator=generator)
    scores = torch.zeros((num_rows, num_items + 2)).scatter(1, target, 1.0) + torch.rand((num_rows, num_items + 2), generator=generator) / 2
    scores[:, :2] = NOT
    shuffled = target[torch.randperm(num_rows, generator=generator)]
    for labels, expected in ((target, 1.0), (shuffled, 10 / num_items)):
        judge = Ranking(label="next_items", at=[10])
        sums = np.zeros((judge.num_sums, 1))
        judge.measure(scores, batch([[2]] * num_rows, labels.tolist())).add(sums, np.ones((num_rows, 1)))
        assert judge.metrics(sums)["recall@10"][0] == pytest.approx(expected, abs=0.025)  # four standard deviations of chance
