"""What holds for every network: causal, blind to padding, heard features, and the same loss however rows are shared out."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from foretaste.contract import FEATURES
from foretaste.errors import ModelError
from foretaste.models import GAN, MODELS, DeepAR, Model, Objective, build
from foretaste.models.rows import by_length, left_aligned, step_rows_of
from foretaste.models.variational import Variational
from tests.models.rows import HISTORIES, LONG, NETWORKS, SIZES, batch_of, model_of

OBJECTIVES = {
    "cross_entropy": Objective(),
    "smoothed": Objective(label_smoothing=0.1),
    "sampled_softmax": Objective(name="sampled_softmax", draws=3, exponent=0.5),
    "uncorrected": Objective(name="sampled_softmax", draws=3, log_q=False),
    "bpr_max": Objective(name="bpr_max", draws=3),
    "gbce": Objective(name="gbce", draws=3, exponent=0.0),
}
histories = st.lists(st.lists(st.integers(2, SIZES.num_items - 1), min_size=1, max_size=SIZES.length), min_size=1, max_size=6)
a_few = settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def test_every_trained_network_is_tested() -> None:
    others = {name for name, kind in MODELS.items() if issubclass(kind, Variational | GAN | DeepAR)}  # each has a test file of its own
    assert {options["name"] for options in NETWORKS.values()} == set(MODELS) - others


@pytest.mark.parametrize("name", NETWORKS)
@a_few
@given(history=st.lists(st.integers(2, SIZES.num_items - 1), min_size=2, max_size=SIZES.length), data=st.data())
def test_later_events_move_no_earlier_state(name: str, history: list[int], data: st.DataObject) -> None:
    cut = data.draw(st.integers(1, len(history) - 1))
    other = data.draw(st.lists(st.integers(2, SIZES.num_items - 1), max_size=SIZES.length - cut))
    model = model_of(name, features=("item", "gap"))
    one, two = (left_aligned(batch_of([row], SIZES.length, ("item", "gap"))) for row in (history, history[:cut] + other))
    torch.testing.assert_close(model.encode(one)[:, :cut], model.encode(two)[:, :cut])


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("head", ["items", "binary"])
def test_padding_and_neighbours_never_change_a_score(name: str, head: str) -> None:
    model, rows = model_of(name, head, features=("item", "gap")), [*HISTORIES, LONG]
    expected = model.score(batch_of(rows, len(LONG), ("item", "gap")))
    for columns in (12, 40):
        torch.testing.assert_close(model.score(batch_of(rows, columns, ("item", "gap"))), expected)
    for number, row in enumerate(rows):
        alone = replace(batch_of([row], 12, ("item", "gap")), recency=torch.tensor([number]))
        torch.testing.assert_close(model.score(alone)[0], expected[number], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_order_of_events_matters(name: str) -> None:
    first, second = model_of(name).score(batch_of([[2, 3, 4], [3, 2, 4]], columns=3))
    assert not torch.allclose(first[2:], second[2:], atol=1e-4)


@pytest.mark.parametrize("name", NETWORKS)
def test_every_feature_is_heard_and_costs_its_embedding_alone(name: str) -> None:
    plain = model_of(name)
    for feature in FEATURES[1:]:
        model = model_of(name, features=("item", feature))
        extra = sum(part.numel() for part in model.parameters()) - sum(part.numel() for part in plain.parameters())
        times = 2 * 3 * 28 if name.endswith("relative") and feature == "gap" else 0  # two layers of three heads see time as well
        assert extra == model.embeddings["item"].embedding_dim * SIZES.of(feature) + times
        batch = batch_of([[2, 3, 4]], 3, ("item", feature))
        changed = torch.where(batch.features[feature] == 2, 1, 2)
        other = replace(batch, features={**batch.features, feature: changed})
        assert not torch.allclose(model.score(batch)[:, 2:], model.score(other)[:, 2:], atol=1e-5), feature


@pytest.mark.parametrize("name", NETWORKS)
def test_all_features_at_once(name: str) -> None:
    model = model_of(name, features=FEATURES)
    assert set(model.embeddings) == set(FEATURES)
    assert torch.isfinite(model.score(batch_of(HISTORIES, 5, FEATURES))[:, 2:]).all()


@pytest.mark.parametrize("name", ["gru", "attention relative"])
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_rows_may_be_shared_out(name: str, objective: str) -> None:
    """The sums of two ranks' losses and gradients are those of one process: what the loop adds up."""
    model, rows = model_of(name, objective=OBJECTIVES[objective]), [*HISTORIES, LONG]

    def summed(parts: list[list[list[int]]]) -> tuple[float, float, list[torch.Tensor]]:
        model.zero_grad()
        total = count = 0.0
        for part in parts:
            model.noise.manual_seed(5)
            (loss,) = model.step(batch_of(part, 12))
            loss.total.backward()
            total, count = total + loss.total.item(), count + loss.count.item()
        return total, count, [part.grad.clone() for part in model.parameters() if part.grad is not None]

    whole, halves = summed([rows]), summed([rows[:2], rows[2:]])
    assert halves[0] == pytest.approx(whole[0], rel=1e-5)
    assert halves[1] == whole[1] == sum(map(len, rows))  # events after the first, and the label
    torch.testing.assert_close(halves[2], whole[2], atol=1e-5, rtol=1e-4)


@a_few
@given(rows=histories)
def test_parts_of_like_length_hold_every_row_once(rows: list[list[int]]) -> None:
    aligned = left_aligned(batch_of(rows, SIZES.length))
    parts = by_length(aligned)
    assert sorted(torch.cat([chosen for chosen, _ in parts]).tolist()) == list(range(len(rows)))
    for chosen, part in parts:
        assert part.item.shape[1] == int(part.length.max())
        assert max(part.length.tolist()) <= 8 or min(part.length.tolist()) > 8
        for place, row in enumerate(chosen.tolist()):
            assert part.item[place, : part.length[place]].tolist() == rows[row]


@pytest.mark.parametrize(
    ("lengths", "step_rows", "parts"),
    [
        # a part of some rows, up to so many events, costs events * (step_rows + rows); there are parts up to 8, 16 and 32 events
        pytest.param([8, 16, 32], 0, [[0], [1], [2]], id="8 * 1 + 16 * 1 + 32 * 1 = 56"),
        pytest.param([8, 16, 32], 2, [[0], [1, 2]], id="8 * 3 + 32 * 4 = 152, each alone 168, all together 160"),
        pytest.param([8, 16, 32], 100, [[0, 1, 2]], id="32 * 103 = 3296, the last two together 4072"),
        pytest.param([32] + [8] * 9, 2, [[1, 2, 3, 4, 5, 6, 7, 8, 9], [0]], id="8 * 11 + 32 * 3 = 184, together 384"),
        pytest.param([32] + [8] * 9, 30, [[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]], id="32 * 40 = 1280, apart 8 * 39 + 32 * 31 = 1304"),
    ],
)
def test_parts_are_joined_where_their_steps_cost_more_than_padding(lengths: list[int], step_rows: int, parts: list[list[int]]) -> None:
    aligned = left_aligned(batch_of([[2] * length for length in lengths], 32))
    assert [rows.tolist() for rows, _ in by_length(aligned, step_rows)] == parts


@pytest.mark.parametrize(
    ("widths", "rows"),
    [
        pytest.param((64, 64), 48, id="200,000 products by 4,096"),
        pytest.param((64, 64, 32), 65, id="two layers, two costs: 400,000 by 4,096 + 2,048"),
        pytest.param((512, 512), 0, id="262,144 products are more than a step costs"),
    ],
)
def test_what_a_step_of_recurrent_layers_costs_in_rows(widths: tuple[int, ...], rows: int) -> None:
    assert step_rows_of(widths) == rows
    for name, expected in (("gru", rows), ("lstm", 0)):  # oneDNN takes all steps of an LSTM at once
        model = build(name, head="items", label="next_items", sizes=SIZES, embedding=widths[0], hidden=widths[1:])
        assert model.step_rows == expected


@pytest.mark.parametrize("name", ["gru", "attention relative", "hstu relative"])
def test_parts_change_no_loss(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, batch = model_of(name), batch_of([*HISTORIES, LONG], 12)
    assert len(model._parts(batch)) == 2
    (parts,), scores = model.step(batch), model.score(batch)
    monkeypatch.setattr(Model, "parts_rows", False)
    (whole,) = model.step(batch)
    assert parts.total.item() == pytest.approx(whole.total.item(), rel=1e-5)
    torch.testing.assert_close(scores, model.score(batch))


@pytest.mark.parametrize("name", NETWORKS)
def test_activations_that_are_computed_again_give_the_same_gradients(name: str) -> None:
    def gradients(again: bool) -> list[torch.Tensor]:
        model = model_of(name, dropout=0.2, checkpoint_activations=again).train()
        torch.manual_seed(3)
        (loss,) = model.step(batch_of(HISTORIES, 5))
        loss.total.backward()
        return [part.grad for part in model.parameters() if part.grad is not None]

    torch.testing.assert_close(gradients(True), gradients(False))


@pytest.mark.parametrize("name", NETWORKS)
def test_rows_longer_than_those_it_learnt_from_are_scored(name: str) -> None:
    rows = [[2 + place % 7 for place in range(SIZES.length + 5)]]
    assert torch.isfinite(model_of(name).score(batch_of(rows, SIZES.length + 5))[:, 2:]).all()


def test_an_output_without_bias_has_no_parameter_for_it() -> None:
    plain, bare = model_of("gru"), model_of("gru", output_bias=False)
    assert set(plain.state_dict()) - set(bare.state_dict()) == {"head.bias"}
    assert bare.item_weights()[1].tolist() == [-torch.inf, -torch.inf, *[0.0] * 7]


def test_popularity_is_where_an_items_head_starts() -> None:
    model = model_of("gru")
    model.follow({"popularity": torch.tensor([4.0, 2.0, 1.0, 1.0, 1.0, 1.0, 10.0])})
    assert model.item_weights()[1][2:].exp().tolist() == pytest.approx([0.2, 0.1, 0.05, 0.05, 0.05, 0.05, 0.5])
    calm = model_of("gru", objective=OBJECTIVES["bpr_max"])  # it keeps scores near 0
    calm.follow({"popularity": torch.tensor([4.0, 2.0, 1.0, 1.0, 1.0, 1.0, 10.0])})
    assert calm.item_weights()[1][2:].tolist() == [0.0] * 7


def test_sizes_are_presets_that_explicit_settings_win_over() -> None:
    numbers = [sum(part.numel() for part in model_of("gru", embedding=None, hidden=None, size=size).parameters()) for size in SIZE_NAMES]
    assert numbers == sorted(numbers)
    assert len(set(numbers)) == 3
    model = model_of("transformer", embedding=8, size="tiny", heads=2)
    assert (len(model.blocks), model.blocks[0].heads, model.embeddings["item"].embedding_dim) == (1, 2, 8)


SIZE_NAMES = ("tiny", "base", "large")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "gru", "layers": 2}, r"gru has no setting layers \(model.layers\). Leave it out"),
        ({"name": "transformer", "hidden": (5,)}, r"transformer has no setting hidden \(model.hidden\)"),
        ({"name": "gru", "size": "huge"}, r"gru has no size 'huge' \(model.size\). Use one of tiny, base, large"),
        ({"name": "transformer", "embedding": 10, "heads": 3}, "3 heads cannot share a width of 10"),
        ({"name": "transformer", "embedding": 6, "heads": 2, "position": "rotary"}, "2 heads cannot share a width of 6 in pairs"),
        ({"name": "transformer", "block": "mamba"}, "no block is called 'mamba'"),
        ({"name": "transformer", "position": "absolute"}, "no position is called 'absolute'"),
    ],
)
def test_options_that_do_not_go_together_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        model_of(**options)


@pytest.mark.parametrize("name", ["gru", "attention relative"])
def test_matrices_decay_and_the_rest_does_not(name: str) -> None:
    model = model_of(name)
    decays, others = model.optimizers(learning_rate=0.1, weight_decay=0.5)["main"].param_groups
    assert (decays["weight_decay"], others["weight_decay"]) == (0.5, 0.0)
    names = {id(parameter): key for key, parameter in model.named_parameters()}
    assert {id(part) for part in (*decays["params"], *others["params"])} == set(names)
    assert "embeddings.item.weight" in {names[id(part)] for part in decays["params"]}
    assert not any("bias" in names[id(part)] or "norm" in names[id(part)] or "position" in names[id(part)] for part in decays["params"])
