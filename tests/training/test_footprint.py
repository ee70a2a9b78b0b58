import pytest
import torch

from foretaste.contract import Sizes
from foretaste.models import Model, build
from foretaste.models.rows import left_aligned
from foretaste.training import footprint
from tests.models.rows import batch_of


@pytest.mark.parametrize(("size", "text"), [(2.5e6, "2.5 MB"), (38e6, "38 MB"), (3.44e9, "3.4 GB")])
def test_bytes_are_readable(size: float, text: str) -> None:
    assert footprint.readable(size) == text


ROWS, LENGTH, WIDTH = 16, 24, 32


def network(name: str, again: bool = False) -> Model:
    own = {"layers": 4, "heads": 2} if name == "transformer" else {"hidden": (WIDTH, WIDTH)}
    sizes = Sizes(num_items=50, length=LENGTH)
    options = {"embedding": WIDTH, "dropout": 0.2, "checkpoint_activations": again, **own}
    return build(name, head="items", label="next_items", sizes=sizes, **options).train()


@pytest.mark.parametrize("name", ["elman", "gru", "lstm", "transformer"])
def test_the_estimate_is_near_what_autograd_keeps(name: str) -> None:
    """Counted by hooks on every tensor that is saved for the backward pass, each storage once, parameters left out."""
    model = network(name)
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept: dict[int, int] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    batch = left_aligned(batch_of([[2 + place % 6 for place in range(LENGTH)]] * ROWS, LENGTH))
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        states = model.encode(batch)
    assert states.shape == (ROWS, LENGTH, WIDTH)
    assert 0.5 < 4 * ROWS * model.activations(LENGTH) / sum(kept.values()) < 2.0


@pytest.mark.parametrize("name", ["gru", "transformer"])
def test_activations_that_are_computed_again_take_less(name: str) -> None:
    assert network(name, again=True).activations(LENGTH) < network(name).activations(LENGTH) / 2


def test_weights_and_moments_and_logits_by_hand() -> None:
    model = build("gru", head="items", label="next_items", sizes=Sizes(num_items=8), embedding=4, hidden=(4,))
    number = 8 * 4 + 3 * 4 * (4 + 4 + 2) + 6
    parts = footprint.estimate(model, rows=2, length=5, num_items=8, draws=0)
    assert parts == {"weights": 8.0 * number, "adam": 8.0 * number, "activations": 4 * (2 * 5 * (2 * 4 + 9 * 4) + 2 * 2 * 5 * 8)}
    assert footprint.estimate(model, rows=2, length=5, num_items=8, draws=3)["activations"] == 4 * (2 * 5 * (2 * 4 + 9 * 4) + 2 * 2 * 5 * 4)


def test_the_peak_is_at_least_what_is_held_now() -> None:
    what, size = footprint.peak(torch.device("cpu"))
    assert what == "memory of the process"
    assert 50e6 < size < 1e12
