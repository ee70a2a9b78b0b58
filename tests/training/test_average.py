import pytest
import torch

from foretaste.contract import Sizes
from foretaste.models import build
from foretaste.training.average import Average
from foretaste.training.checkpoints import pack, unpack


def test_the_average_follows_the_weights_and_lends_itself_out() -> None:
    model = build("gru", head="items", label="next_items", sizes=Sizes(num_items=8), embedding=4, hidden=(4,))
    table = model.embeddings["item"].weight
    with torch.no_grad():
        table.fill_(1.0)
    average = Average(model, decay=0.9)
    for step, value in ((1, 3.0), (2, 5.0)):
        with torch.no_grad():
            table.fill_(value)
        average.follow(step)
    # The first steps count more than the decay says: 2/11 and 3/12 of the average stay.
    expected = 3 / 12 * (2 / 11 * 1 + 9 / 11 * 3) + 9 / 12 * 5
    with average.in_place():
        assert table[0, 0].item() == pytest.approx(expected)
    assert table[0, 0].item() == 5.0

    late = Average(model, decay=0.9)
    with torch.no_grad():
        table.fill_(6.0)
    late.follow(1000)
    assert late.weights["embeddings.item.weight"][0, 0].item() == pytest.approx(5.1)

    other = Average(model, decay=0.9)
    unpack(pack(model, {}, average), model, {}, other)
    other.settle()
    assert table[0, 0].item() == pytest.approx(expected)
