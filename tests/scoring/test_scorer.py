"""A stored model scores as the network that was stored."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from foretaste.contract import FIRST_INDEX, Batch
from foretaste.errors import ModelError
from foretaste.scoring.scorer import ModelScorer, without_history
from tests.scoring.stored import batch, histories, store

COUNTS = {f"item{number}": 1000 - number for number in range(30)}


def as_tensors(rows: Batch[np.ndarray]) -> Batch[torch.Tensor]:
    return rows.map(torch.from_numpy)


def test_the_best_items_are_those_of_the_networks_own_softmax(tmp_path: Path) -> None:
    stored = store(tmp_path, COUNTS)
    rows = histories(50, stored.sizes.num_items)
    expected = stored.network().score(as_tensors(rows)).double().softmax(1).topk(5)
    indices, probabilities = ModelScorer(stored, 256).top_k(rows, 5)
    assert np.array_equal(indices, expected.indices.numpy())
    assert np.abs(probabilities - expected.values.numpy()).max() <= 1e-6


def test_a_large_batch_is_scored_in_parts_with_the_same_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The network and the catalogue see so many rows at a time: what a row has of scores must fit into memory with the others'."""
    stored = store(tmp_path, COUNTS)
    rows = histories(50, stored.sizes.num_items)
    whole = ModelScorer(stored, 1000).top_k(rows, 5)
    scorer, sizes, ranked = ModelScorer(stored, 16), [], []
    represent, best = scorer.network.represent, scorer.catalogue.best
    monkeypatch.setattr(scorer.network, "represent", lambda part: sizes.append(len(part.length)) or represent(part))
    monkeypatch.setattr(scorer.catalogue, "best", lambda part, *others, **named: ranked.append(len(part)) or best(part, *others, **named))
    indices, probabilities = scorer.top_k(rows, 5)
    assert sizes == ranked == [16, 16, 16, 2]
    assert np.array_equal(indices, whole[0])
    assert np.abs(probabilities - whole[1]).max() <= 1e-6


def test_all_items_are_named_once_where_more_are_asked_for(tmp_path: Path) -> None:
    stored = store(tmp_path, COUNTS)
    indices, probabilities = ModelScorer(stored, 256).top_k(histories(3, stored.sizes.num_items), 1000)
    assert all(sorted(row) == list(range(FIRST_INDEX, FIRST_INDEX + 30)) for row in indices.tolist())
    assert probabilities.sum(1) == pytest.approx(1.0)


def test_a_binary_score_is_the_calibrated_probability(tmp_path: Path) -> None:
    stored = store(tmp_path, COUNTS, task="returns", calibration={"slope": 0.5, "intercept": -1.0}, base_rate=0.3)
    rows = histories(40, stored.sizes.num_items)
    logits = stored.network().score(as_tensors(rows)).tolist()
    expected = [1 / (1 + math.exp(-(0.5 * logit - 1.0))) for logit in logits]
    assert ModelScorer(stored, 16).probability(rows) == pytest.approx(expected, abs=1e-6)


def test_a_model_of_nan_is_refused_and_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scorer = ModelScorer(store(tmp_path, COUNTS), 16)
    monkeypatch.setattr(scorer.network, "represent", lambda part: torch.full((len(part.length), 8), torch.nan))
    with pytest.raises(ModelError, match="interest version 1"):
        scorer.top_k(histories(3, 32), 5)


def test_rows_without_a_known_item_have_no_history() -> None:
    assert without_history(batch([[0, 0, 2], [0, 1, 1], [0, 0, 0], [5, 1, 1]])).tolist() == [False, True, True, False]
