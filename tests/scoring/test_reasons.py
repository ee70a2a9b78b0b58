"""Why a target stands where it does: on scorers whose reasons are known, and on a network by removing what was named."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from foretaste.contract import Batch
from foretaste.models import Blend, Model, build_counted
from foretaste.scoring.arrow import TARGETS, targets
from foretaste.scoring.reasons import Reasons, named, tried_items, without
from foretaste.scoring.scorer import ModelScorer
from foretaste.scoring.udf import ScoreUsers
from tests.scoring.stored import batch, histories, record_batch, store
from tests.scoring.test_udf import COUNTS, POPULAR

IDS = np.array([None, None, "tea", "milk", "jam", "salt", "oil"], dtype=object)
IDS_ARROW = pa.array(IDS.tolist(), pa.string())
ROWS = batch([[0, 2, 4, 3, 4], [5, 5, 3, 2, 1]])


def test_the_last_different_items_are_tried() -> None:
    assert tried_items(ROWS.item, 3).tolist() == [[4, 3, 2], [2, 3, 5]]  # unknown items are none
    assert tried_items(ROWS.item, 9)[:, :4].tolist() == [[4, 3, 2, 0], [2, 3, 5, 0]]
    assert tried_items(ROWS.item, 0).shape == (2, 0)


def test_without_an_item_the_others_move_up() -> None:
    found = without(ROWS, ROWS.item == np.array([[4], [5]]))
    assert found.item.tolist() == [[0, 0, 0, 2, 3], [0, 0, 3, 2, 1]]
    assert found.length.tolist() == [2, 3]
    assert found.features["event"].tolist() == [[0, 0, 0, 1, 1], [0, 0, 1, 1, 1]]


class Knows:
    """Target 2 is liked for each milk (3), and a little for jam (4); target 6 for nothing. A row without targets: for idle hours."""

    def __init__(self, *, ranks: bool) -> None:
        self.ranks = ranks

    def about(self, rows: Batch[Any], position: np.ndarray) -> tuple[np.ndarray, Callable[[Batch[Any]], np.ndarray]]:
        def of_targets(rows: Batch[Any]) -> np.ndarray:
            if not self.ranks:
                return np.log1p(rows.facts["idle_hours"])[:, None].astype(float)
            liked = 3.0 * (rows.item == 3).sum(1) + 0.5 * (rows.item == 4).sum(1)
            return np.where(position == 2, liked[:, None], 0.0)

        return of_targets(rows), of_targets


def test_what_a_target_falls_by_most_is_named_first_and_what_it_does_not_fall_by_is_not() -> None:
    position = np.array([[2, 6], [2, 6]])
    found = Reasons(named=2, tried=3, targets=2).of(Knows(ranks=True), ROWS, position, IDS, ("item",), {})
    assert found.tolist() == [[["milk", "jam"], [None, None]], [["milk", None], [None, None]]]
    first = Reasons(named=1, tried=3, targets=1).of(Knows(ranks=True), ROWS, position, IDS, ("item",), {})
    assert first.tolist() == [[["milk"]], [["milk"]]]


def test_facts_are_reasons_with_their_value() -> None:
    """Against a median of 20 hours: the first row has more. A model that sees no item names none."""
    rows = replace(ROWS, facts={"idle_hours": np.array([30, 10], dtype=np.int32)})
    position = np.array([[2], [2]])
    found = Reasons(named=2, tried=3, targets=1).of(Knows(ranks=False), rows, position, IDS, ("gap",), {"idle_hours": 20.0})
    assert found.tolist() == [[["idle_hours 30", None]], [[None, None]]]


def test_named_are_only_falls() -> None:
    fall = np.array([[[0.2, -np.inf, 0.0, 0.7]]])
    assert named(fall, 3).tolist() == [[[3, 0, -1]]]
    assert named(fall[:, :, :1], 3).tolist() == [[[0, -1, -1]]]


def test_reasons_stand_with_their_targets_in_arrow() -> None:
    reasons = np.array([[["milk", None]], [[None, None]]], dtype=object)  # of the first target alone
    lists = targets(IDS_ARROW, np.array([[2, 6], [3, 0]]), np.array([[0.5, 0.2], [0.9, 0.0]]), reasons)
    assert lists.type == TARGETS
    assert [[(one["target_id"], one["reasons"]) for one in row] for row in lists.to_pylist()] == [
        [("tea", ["milk"]), ("oil", [])], [("milk", [])],
    ]  # fmt: skip


def test_removing_what_is_named_takes_more_off_than_removing_another_item(tmp_path: Path) -> None:
    """A network's first reason, against each row's other items, on the score that it was found by."""
    stored = store(tmp_path, COUNTS)
    scorer, rows = ModelScorer(stored, 16), histories(60, 2 + len(COUNTS))
    position, _ = scorer.top_k(rows, 3)
    found = Reasons(named=1, tried=6, targets=1).of(scorer, rows, position, stored.item_ids(), ("item",), {})[:, 0, 0]
    before = scorer.about(rows, position)[0][:, 0]
    by_id = {name: index for index, name in enumerate(stored.item_ids()) if name is not None}
    more, compared = 0, 0
    for row, name in enumerate(found):
        others = sorted(set(rows.item[row].tolist()) - {0, by_id.get(name)})
        if name is None or not others:
            continue
        one = rows.map(lambda array, row=row: array[row : row + 1])
        falls = [before[row] - _score(scorer, without(one, one.item == item), position[row : row + 1]) for item in others]
        more += before[row] - _score(scorer, without(one, one.item == by_id[name]), position[row : row + 1]) >= max(falls)
        compared += 1
    assert compared > 20
    assert more == compared


def test_the_udf_names_reasons_of_the_first_targets_of_those_who_have_a_history(tmp_path: Path) -> None:
    stored = store(tmp_path, COUNTS)
    users = ScoreUsers(
        root=str(tmp_path), name="interest", version=stored.version, batch_size=16, top_k=5, fallback=POPULAR,
        reasons=Reasons(named=2, tried=3, targets=2),
    )  # fmt: skip
    (scored,) = users([record_batch(batch([[0, 0, 2, 3, 4], [0, 0, 0, 0, 1]]), ["known", "stranger"])])
    known, stranger = scored.to_pylist()
    assert any(known["targets"][0]["reasons"] + known["targets"][1]["reasons"])
    assert {reason for target in known["targets"] for reason in target["reasons"]} <= {"item0", "item1", "item2"}
    assert [target["reasons"] for target in known["targets"][2:]] == [[]] * 3
    assert [target["reasons"] for target in stranger["targets"]] == [[]] * len(stranger["targets"])


def _score(scorer: ModelScorer, row: Batch[Any], position: np.ndarray) -> float:
    """Of the first target of one row."""
    return float(scorer.about(row, position)[0][0, 0])


def test_targets_of_a_counted_model_and_of_a_blend_stand_as_they_do_among_all(tmp_path: Path) -> None:
    """Against each other, as reasons look at them: for the rows themselves, and for others, of which the blend's network hardly differs."""
    scorer, rows = ModelScorer(store(tmp_path, COUNTS), 16), histories(20, 2 + len(COUNTS))
    position = np.tile(np.array([[2, 4, 3]]), (20, 1))
    network, scorer.catalogue = scorer.network, None
    assert isinstance(network, Model)
    counted = build_counted("own_items", head="items", sizes=scorer.stored.sizes)
    blend = Blend(label="next_items", network=network, experts={"own_items": counted}, candidates=len(COUNTS)).eval()
    gaps = replace(rows, features={**rows.features, "gap": np.where(rows.item > 0, 2, 0).astype(np.int32)})
    for model in (counted, blend):
        scorer.network = model
        found, again = scorer.about(gaps, position)
        among_all = model.score(gaps.map(torch.tensor)).detach().numpy()
        wanted = np.take_along_axis(among_all, position, axis=1)
        assert found - found[:, :1] == pytest.approx(wanted - wanted[:, :1], abs=1e-4)
        assert again(gaps) == pytest.approx(found, abs=1e-6)
