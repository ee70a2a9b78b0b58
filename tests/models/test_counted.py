"""Counted models: probabilities by hand, and tables that are stored and loaded like weights."""

import math
from pathlib import Path

import pytest
import safetensors.torch
import torch

from foretaste.contract import Sizes
from foretaste.errors import ModelError
from foretaste.models import COUNTED, build_counted
from foretaste.models.counted import entries, last_known
from tests.models.counted import NUM_ITEMS, POPULARITY, A, B, C, D, E, model, ranking, rows

AFTER = {"offset": [0, 0, 0, 2, 3, 3, 3, 3], "neighbour": [B, C, D], "weight": [3.0, 1.0, 2.0]}  # A → B 3, C 1; B → D 2
RECENT = {"recent": [0.0, 0.0, 0.0, 4.0, 4.0, 0.0, 0.0]}


def test_popularity_is_a_probability_for_everybody() -> None:
    scores = model("popularity").score(rows([A], [B, B]))
    assert scores.exp().sum(1).tolist() == pytest.approx([1.0, 1.0])
    assert scores[0, A].exp() == pytest.approx(0.5, rel=0.01)
    assert (scores[:, :2] == -math.inf).all(), "PAD and UNKNOWN are no items"
    assert ranking(scores) == [[A, B, C, D, E]] * 2  # the one that was never seen is the last


def test_recent_popularity_breaks_its_ties_by_all_time() -> None:
    for smoothing in (0.0, 1e-3):
        assert ranking(model("recent_popularity", RECENT, smoothing=smoothing).score(rows([A])))[0][:4] == [B, C, A, D]


def test_own_items_come_first_by_their_number_then_the_popular_ones() -> None:
    for smoothing in (0.0, 1e-3):
        scores = model("own_items", smoothing=smoothing).score(rows([D, B, D], [0, 0, C], [0, 1, 1], [D, C, B]))
        assert [row[:4] for row in ranking(scores)] == [[D, B, A, C], [C, A, B, D], [A, B, C, D], [B, C, D, A]]


def test_with_a_decay_the_latest_of_the_own_items_wins() -> None:
    assert ranking(model("own_items", own_decay=0.5).score(rows([D, D, B])))[0][:2] == [B, D]  # 1 against 1/2 + 1/4


def test_transitions_follow_the_last_known_item() -> None:
    chosen = model("markov", AFTER, smoothing=0.1)
    scores = chosen.score(rows([B, A], [A, 1], [A, B]))
    share = chosen.shares()
    assert scores[0].exp().tolist() == pytest.approx([0, 0, *(0.1 * share[2:] + torch.tensor([0, 0.675, 0.225, 0, 0])).tolist()])
    assert torch.equal(scores[0], scores[1])  # an event of an unknown item says nothing
    assert ranking(scores)[2][:2] == [D, A]


def test_without_evidence_it_is_popularity_and_without_smoothing_nothing() -> None:
    nothing = rows([C], [1])
    assert torch.allclose(model("markov", AFTER).score(nothing), model("popularity").score(nothing), atol=1e-6)
    assert (model("markov", AFTER, smoothing=0.0).score(nothing) == -math.inf).all()


def test_rows_are_scored_alike_alone_and_together() -> None:
    chosen = model("rules", AFTER)
    assert torch.equal(chosen.score(rows([A], [B])), torch.cat([chosen.score(rows([A])), chosen.score(rows([B]))]))


def test_tables_of_any_length_are_stored_and_loaded(tmp_path: Path) -> None:
    safetensors.torch.save_file(model("rules", AFTER).state_dict(), tmp_path / "weights.safetensors")
    loaded = build_counted("rules", head="items", sizes=Sizes(num_items=NUM_ITEMS))
    loaded.load_state_dict(safetensors.torch.load_file(tmp_path / "weights.safetensors"))
    assert torch.equal(loaded.score(rows([A])), model("rules", AFTER).score(rows([A])))


def test_what_is_worked_out_of_tables_is_forgotten_with_them() -> None:
    seen, asked = rows([A, B]), torch.tensor([[B, D]])
    chosen, fresh = model("rules", AFTER), model("rules", {**AFTER, "weight": [6.0, 1.0, 2.0]})
    before = [*chosen.opinions(seen), *chosen.opinions_of(seen, asked)]
    chosen.load_state_dict(fresh.state_dict())
    after, expected = ([*each.opinions(seen), *each.opinions_of(seen, asked)] for each in (chosen, fresh))
    assert all(torch.equal(one, other) for one, other in zip(after, expected, strict=True))
    assert not all(torch.equal(one, other) for one, other in zip(after, before, strict=True))


@pytest.mark.parametrize(
    "tables",
    [
        {"popularity": torch.tensor(POPULARITY[:-1])},  # of another vocabulary
        {"offset": torch.tensor(AFTER["offset"])},  # neighbour is missing
    ],
)
def test_tables_of_another_model_are_refused(tables: dict[str, torch.Tensor]) -> None:
    made = build_counted("rules", head="items", sizes=Sizes(num_items=NUM_ITEMS))
    with pytest.raises(RuntimeError):
        made.load_state_dict({"popularity": torch.tensor(POPULARITY), "weight": torch.tensor(AFTER["weight"]), **tables})


def test_they_answer_nothing_but_items() -> None:
    for name in COUNTED:
        with pytest.raises(ModelError, match=f"{name} ranks items"):
            build_counted(name, head="binary", sizes=Sizes(num_items=NUM_ITEMS))


def test_entries_by_hand() -> None:
    owner, place = entries(torch.tensor([0, 2, 2, 5]), torch.tensor([2, 0, 1, 2]))
    assert owner.tolist() == [0, 0, 0, 1, 1, 3, 3, 3]
    assert place.tolist() == [2, 3, 4, 0, 1, 2, 3, 4]


def test_last_known_by_hand() -> None:
    assert last_known(torch.tensor([[0, A, B], [A, B, 1], [0, 1, 1], [0, 0, 0]])).tolist() == [B, B, 0, 0]


@pytest.mark.parametrize(
    ("name", "options"),
    [("popularity", {}), ("own_items", {}), ("own_items", {"own_decay": 0.5}), ("markov", {}), ("rules", {}), ("item_knn", {})],
)
def test_some_items_are_looked_up_as_they_are_among_all(name: str, options: dict[str, float]) -> None:
    """Every item for rows with repeats, unknown items, items without followers and nothing known."""
    tables = {"offset": [0, 0, 0, 3, 5, 6, 6, 6], "neighbour": [B, C, A, A, D, B], "weight": [3.0, 1.0, 0.5, 2.0, 2.0, 1.0]}
    chosen = model(name, tables if name in ("markov", "rules", "item_knn") else None, **options)
    batch = rows([A, B, A], [1, C, D, E], [1], [C, C, C, B], [E])
    every = torch.arange(NUM_ITEMS).expand(5, -1)
    among_all, alone = chosen.opinions(batch), chosen.opinions_of(batch, every)
    assert len(among_all) == len(alone)
    for whole, looked_up in zip(among_all, alone, strict=True):
        assert torch.allclose(whole[:, 2:], looked_up[:, 2:], atol=1e-6)
