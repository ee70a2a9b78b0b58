"""Whether wishes are heeded, of a network whose rows are written out."""

from dataclasses import replace

import torch

from foretaste.contract import Batch
from foretaste.evaluation.heeding import Heeded, heeded
from foretaste.models import Conditions
from tests.models.rows import model_of


def test_shares_of_rows_that_hold_what_they_were_asked_for() -> None:
    """Unasked, all rows are of items 2 and 2. Asked for category 3, each second row is of item 4, which is of it; an item that is asked for
    is there in all but the first row; of a campaign nothing is asked.
    """
    network = model_of("gan", hidden=(5,), latent=3, anneal_steps=0, features=("item",))
    network.category_of_item[2:5] = torch.tensor([2, 2, 3])

    def draw(conditions: Conditions, seed: torch.Tensor) -> Batch[torch.Tensor]:
        rows = torch.arange(len(seed))
        item = torch.full((len(seed), 2), 2, dtype=torch.int32)
        item[(conditions.category > 0) & (rows % 2 == 1)] = 4
        last = (conditions.item > 0) & (rows > 0)
        item[last, 1] = conditions.item[last].int()
        length = torch.full((len(seed),), 2, dtype=torch.int32)
        return Batch(features={"item": item}, length=length, fresh=length, recency=length)

    network.draw = draw  # type: ignore[method-assign]
    asked = replace(Conditions.none(4), budget=torch.full((4,), 2), category=torch.full((4,), 3), item=torch.tensor([5, 5, 2, 0]))
    assert heeded(network, asked, torch.arange(4)) == {  # type: ignore[arg-type]
        "category": Heeded(asked=0.5, unasked=0.0),
        "item": Heeded(asked=torch.tensor(2 / 3).item(), unasked=torch.tensor(1 / 3).item()),
    }
