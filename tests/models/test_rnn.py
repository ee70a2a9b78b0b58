import numpy as np
import pytest
import torch

from foretaste.contract import Sizes
from foretaste.errors import ModelError
from foretaste.models import Objective, build
from foretaste.models.rows import left_aligned
from tests.models.rows import HISTORIES, batch_of, model_of

RECURRENT = ("elman", "gru", "lstm")


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def by_hand(name: str, layer: torch.nn.RNNBase, inputs: np.ndarray) -> np.ndarray:
    """One layer over one row (T, E) → (T, H), gate by gate as PyTorch's documentation writes the equations."""
    w, u, b, c = (getattr(layer, part).detach().numpy() for part in ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"))
    h = cell = np.zeros(layer.hidden_size)
    states = []
    for x in inputs:
        if name == "elman":
            h = np.tanh(w @ x + b + u @ h + c)
        elif name == "gru":
            (xr, xz, xn), (hr, hz, hn) = np.split(w @ x + b, 3), np.split(u @ h + c, 3)
            z = sigmoid(xz + hz)
            h = (1 - z) * np.tanh(xn + sigmoid(xr + hr) * hn) + z * h
        else:
            i, f, g, o = np.split(w @ x + b + u @ h + c, 4)
            cell = sigmoid(f) * cell + sigmoid(i) * np.tanh(g)
            h = sigmoid(o) * np.tanh(cell)
        states.append(h)
    return np.stack(states)


@pytest.mark.parametrize("name", RECURRENT)
def test_states_are_those_of_the_equations(name: str) -> None:
    model = model_of(name, hidden=(5, 3))
    states = model.encode(left_aligned(batch_of(HISTORIES, columns=7))).detach().numpy()
    for row, history in enumerate(HISTORIES):
        inputs = model.embeddings["item"].weight.detach().numpy()[history]
        for layer in model.layers:
            inputs = by_hand(name, layer, inputs)
        np.testing.assert_allclose(states[row, : len(history)], inputs, atol=1e-6)


@pytest.mark.parametrize("name", RECURRENT)
@pytest.mark.parametrize(("embedding", "tied"), [(6, True), (5, True), (6, False)])
def test_items_are_scored_by_a_product_and_padding_never(name: str, embedding: int, tied: bool) -> None:
    model, batch = model_of(name, embedding=embedding, tied=tied), batch_of(HISTORIES, columns=5)
    scores, (weights, bias) = model.score(batch), model.item_weights()
    assert scores.shape == (3, 9)
    assert torch.isneginf(scores[:, :2]).all()
    assert torch.isfinite(scores[:, 2:]).all()
    torch.testing.assert_close(scores, model.represent(batch) @ weights.T + bias)


def test_layers_may_differ_in_width() -> None:
    model = model_of("lstm", "binary", embedding=32, hidden=(128, 64), dropout=0.2)
    batch = batch_of(HISTORIES, columns=5)
    assert [layer.hidden_size for layer in model.layers] == [128, 64]
    assert model.encode(left_aligned(batch)).shape == (3, 5, 64)
    assert model.score(batch).shape == (3,)


def test_a_tied_model_stores_its_items_once() -> None:
    tied, own = (model_of("gru", embedding=5, hidden=(5,), tied=tied) for tied in (True, False))
    assert sum(part.numel() for part in own.state_dict().values()) - sum(part.numel() for part in tied.state_dict().values()) == 9 * 5


def test_only_noise_decides_which_negatives_are_drawn() -> None:
    model, batch = model_of("gru", objective=Objective(name="sampled_softmax", draws=2)), batch_of(HISTORIES, columns=5)

    def total(seed: int) -> float:
        model.noise.manual_seed(seed)
        (loss,) = model.step(batch)
        return loss.total.item()

    torch.manual_seed(3)
    first = total(1)
    torch.manual_seed(4)
    assert total(1) == first
    assert total(2) != first


def test_step_counts_its_targets() -> None:
    (items,) = model_of("gru").step(batch_of(HISTORIES, columns=5))
    assert items.count.item() == 3 + 1 + 5  # events after the first, and the label
    (binary,) = model_of("gru", "binary").step(batch_of(HISTORIES, columns=5))
    assert binary.count.item() == 3


@pytest.mark.parametrize(
    ("name", "head", "num_items", "message"),
    [
        ("rnn", "items", 9, "no model is called 'rnn' (model.name). Use one of elman, lstm, gru, "),
        ("gru", "sums", 9, "no head is called 'sums'"),
        ("gru", "items", 2, "the vocabulary holds no item to predict"),
    ],
)
def test_what_cannot_be_built_is_named(name: str, head: str, num_items: int, message: str) -> None:
    with pytest.raises(ModelError, match=f"^{message.replace('(', '[(]').replace(')', '[)]')}"):
        build(name, head=head, label="label", sizes=Sizes(num_items=num_items))


def test_a_binary_model_has_no_item_weights() -> None:
    with pytest.raises(ModelError, match="does not score items"):
        model_of("gru", "binary").item_weights()
