import math

import pytest
import torch

from foretaste.contract import Batch
from foretaste.models import Objective
from foretaste.models.heads import BinaryHead, IncidenceHead, ItemsHead, SurvivalHead, UpliftHead, next_item_targets


def left_aligned(item: list[list[int]], length: list[int], fresh: list[int], first_of_label: list[int]) -> Batch[torch.Tensor]:
    return Batch(
        features={"item": torch.tensor(item, dtype=torch.int32)},
        length=torch.tensor(length, dtype=torch.int32),
        fresh=torch.tensor(fresh, dtype=torch.int32),
        recency=torch.zeros(len(item), dtype=torch.int32),
        labels={"next_items": torch.tensor([[first, 99] for first in first_of_label], dtype=torch.int32)},
    )


def targets(batch: Batch[torch.Tensor]) -> list[tuple[int, int, int]]:
    """(row, position of the state, item that it predicts)"""
    where, items = next_item_targets(batch, "next_items")
    columns = batch.item.shape[1]
    return [(place // columns, place % columns, item) for place, item in zip(where.tolist(), items.tolist(), strict=True)]


def test_each_state_predicts_the_item_that_follows() -> None:
    batch = left_aligned([[5, 6, 7, 8]], length=[4], fresh=[4], first_of_label=[9])
    assert targets(batch) == [(0, 0, 6), (0, 1, 7), (0, 2, 8), (0, 3, 9)]


def test_only_fresh_events_are_targets() -> None:
    batch = left_aligned([[5, 6, 7, 8]], length=[4], fresh=[2], first_of_label=[0])
    assert targets(batch) == [(0, 1, 7), (0, 2, 8)]


def test_padding_and_unknown_items_are_no_targets() -> None:
    batch = left_aligned([[5, 1, 7, 0], [5, 0, 0, 0], [5, 6, 0, 0]], length=[3, 1, 2], fresh=[3, 1, 0], first_of_label=[1, 8, 9])
    assert targets(batch) == [(0, 1, 7), (1, 0, 8), (2, 1, 9)]


def test_an_empty_row_has_no_target() -> None:
    assert targets(left_aligned([[0, 0]], length=[0], fresh=[0], first_of_label=[7])) == []


def test_the_items_head_sums_over_targets_and_starts_at_popularity() -> None:
    head = ItemsHead(width=3, num_items=5, tied=None, objective=Objective())
    assert head.own is not None
    batch = left_aligned([[2, 3, 4]], length=[3], fresh=[3], first_of_label=[0])
    chosen, answers = head.select(torch.zeros(1, 3, 3), batch, "next_items")
    total = head.loss(chosen, answers, torch.Generator())
    # A zero state leaves the bias alone: log-uniform, P(item 3) = log(3/2)/log 4 and P(item 4) = log(4/3)/log 4.
    expected = -torch.log(torch.log(torch.tensor([3 / 2, 4 / 3])) / torch.log(torch.tensor(4.0))).sum()
    torch.testing.assert_close(total, expected)
    assert answers.tolist() == [3, 4]


def test_the_binary_head_sees_how_long_ago_the_last_event_was() -> None:
    torch.manual_seed(0)
    head, state = BinaryHead(width=4), torch.ones(2, 4)
    batch = Batch(
        features={"item": torch.zeros(2, 1, dtype=torch.int32)},
        length=torch.tensor([1, 1]),
        fresh=torch.tensor([1, 1]),
        recency=torch.tensor([3, 20], dtype=torch.int32),
    )
    soon, late = head.score(state, batch).tolist()
    assert soon != late


def test_the_survival_head_answers_for_all_its_days_and_reads_facts() -> None:
    """Hazards of 1/2 on each of three days leave 1/8 away; the logit of that is log(1/7). Facts alone tell two rows apart."""
    torch.manual_seed(0)
    head, state = SurvivalHead(width=4, facts=("repeats",), days=3), torch.ones(2, 4)
    batch = Batch(
        features={"item": torch.zeros(2, 1, dtype=torch.int32)},
        length=torch.ones(2, dtype=torch.int32),
        fresh=torch.ones(2, dtype=torch.int32),
        recency=torch.full((2,), 3, dtype=torch.int32),
        facts={"repeats": torch.tensor([0, 50], dtype=torch.int32)},
    )
    different = head.score(state, batch)
    assert different[0] != different[1]
    for parameter in (head.out.weight, head.out.bias, *head.wide.parameters()):
        torch.nn.init.zeros_(parameter)
    torch.testing.assert_close(head.score(state, batch), torch.full((2,), 1 / 7).log())
    torch.nn.init.constant_(head.out.bias, -200.0)  # nobody ever comes
    assert head.score(state, batch).isfinite().all()


def test_without_facts_a_head_has_the_tensors_that_stored_models_have() -> None:
    assert set(BinaryHead(width=4).state_dict()) == {"recency.weight", "hidden.weight", "hidden.bias", "out.weight", "out.bias"}


def rows_with(facts: dict[str, list[int]]) -> Batch[torch.Tensor]:
    """Rows of one event, PAD, with these facts."""
    number = len(next(iter(facts.values())))
    ones = torch.ones(number, dtype=torch.int32)
    return Batch(
        features={"item": torch.zeros(number, 1, dtype=torch.int32)},
        length=ones,
        fresh=ones,
        recency=ones,
        facts={name: torch.tensor(values, dtype=torch.int32) for name, values in facts.items()},
    )


def test_facts_go_straight_to_the_answer_too() -> None:
    """A zero hidden layer leaves the line through log1p of the amounts, and a number for each code."""
    head, state = BinaryHead(width=4, facts=("answers", "campaign_kind", "repeats")), torch.zeros(2, 4)
    for parameter in head.parameters():
        torch.nn.init.zeros_(parameter)
    head.wide["amounts"].weight.data[:] = torch.tensor([[2.0, -1.0]])
    head.wide["campaign_kind"].weight.data[3] = 0.5
    facts = {"answers": [1, 0], "campaign_kind": [3, 1], "repeats": [0, 3]}
    torch.testing.assert_close(head.score(state, rows_with(facts)), torch.tensor([2.0 * 0.6931472 + 0.5, -1.3862944]))


LINE = {"answers": [0.5], "campaign_kind": [0.0, 0.1, 0.2, -0.3, *[0.0] * 12], "repeats": [-0.25], "intercept": [-1.0]}


@pytest.mark.parametrize(("kind", "share"), [(BinaryHead, 0.3), (IncidenceHead, 0.02), (SurvivalHead, 0.98)])
def test_a_head_starts_at_the_line_through_its_facts(kind: type[BinaryHead | SurvivalHead], share: float) -> None:
    """One logit is the line itself; days of which hazards are small add up to nearly that at rows like the mean one."""
    torch.manual_seed(0)
    days = {} if kind is BinaryHead else {"days": 28}
    head = kind(width=4, facts=("answers", "campaign_kind", "repeats"), **days)
    intercept = -1.0 if kind is BinaryHead else math.log(share / (1 - share))
    tables = {f"line.0.{name}": torch.tensor(values) for name, values in {**LINE, "intercept": [intercept], "share": [share]}.items()}
    head.follow(tables)
    facts = {"answers": [0, 1, 3], "campaign_kind": [0, 3, 2], "repeats": [0, 0, 2]}
    batch = rows_with(facts)
    line = intercept + torch.tensor([0.0, 0.5 * math.log(2) - 0.3, 0.5 * math.log(4) + 0.2 - 0.25 * math.log(3)])
    torch.testing.assert_close(head.score(torch.randn(3, 4), batch), line, atol=0.0 if kind is BinaryHead else 0.02, rtol=1e-5)


def test_without_a_line_a_head_starts_as_it_was() -> None:
    head = BinaryHead(width=4, facts=("answers",))
    before = {name: tensor.clone() for name, tensor in head.state_dict().items()}
    head.follow({"popularity": torch.ones(3)})
    assert all(torch.equal(tensor, before[name]) for name, tensor in head.state_dict().items())


def test_each_arm_starts_at_its_own_line() -> None:
    head = UpliftHead(width=4, facts=("answers",), days=3)
    own = {"line.0.answers": [0.5], "line.1.answers": [1.5], "line.0.intercept": [-6.0], "line.1.intercept": [-5.0]}
    head.follow({name: torch.tensor(values) for name, values in {**own, "line.0.share": [0.0025], "line.1.share": [0.0067]}.items()})
    logits = head.logits(torch.randn(2, 4), rows_with({"answers": [0, 1]}))
    expected = torch.tensor([[-6.0, -5.0], [-6.0 + 0.5 * math.log(2), -5.0 + 1.5 * math.log(2)]])
    torch.testing.assert_close(logits, expected, atol=0.01, rtol=0)


def test_the_uplift_head_learns_each_arm_from_its_own_rows_and_scores_their_difference() -> None:
    """The first row was left out and came on day 2 of 2, the second was reached and did not come in the 2 days that are known of it."""
    torch.manual_seed(0)
    head, state = UpliftHead(width=4, facts=(), days=3), torch.randn(2, 1, 4)
    length = torch.tensor([1, 1])
    batch = Batch(
        features={"item": torch.zeros(2, 1, dtype=torch.int32)},
        length=length,
        fresh=length,
        recency=torch.tensor([3, 20], dtype=torch.int32),
        labels={"trial": torch.tensor([[2, 2, 0], [0, 2, 1]])},
    )
    left_out, reached = head.arms
    assert isinstance(left_out, IncidenceHead)
    assert isinstance(reached, IncidenceHead)
    last = state[:, 0]
    expected = torch.sigmoid(reached.score(last, batch)) - torch.sigmoid(left_out.score(last, batch))
    torch.testing.assert_close(head.score(last, batch), expected)
    hazards, labels = head.select(state, batch, "trial")
    assert labels.tolist() == [[2, 2], [0, 2]]
    torch.testing.assert_close(hazards, torch.stack([left_out.answer(last, batch)[0], reached.answer(last, batch)[1]]))
    head.loss(hazards[:1], labels[:1], torch.Generator()).backward()
    assert all(parameter.grad is None or not parameter.grad.any() for parameter in reached.parameters())
    assert any(parameter.grad is not None and parameter.grad.any() for parameter in left_out.parameters())
