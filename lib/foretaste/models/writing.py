"""How a model writes rows of behaviour: event after event, first the item, then what goes with it, each a draw from its softmax.

Legend: B rows, H units of the state before an event, E embedding, I items.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from foretaste.contract import UNKNOWN, Batch
from foretaste.models import chance
from foretaste.models.details import Details, Unknown
from foretaste.models.heads import ItemsHead


@torch.no_grad()
def write(
    *,
    budget: Tensor,
    length: int,
    seed: Tensor,
    state: Tensor,
    advance: Callable[[Tensor, int], Tensor],
    stream: Callable[[int], int],
    head: ItemsHead,
    unknown: Unknown,
    details: Details,
    embeddings: nn.ModuleDict,
) -> Batch[Tensor]:
    """Rows of `budget`, (B,), events, left-padded to `length`; each depends on its seed and its state alone. It holds (B, I) numbers.

    state:   (B, H) before the first event; advance: (B, E) vectors of an event and its number, from 0, → (B, H) after it
    stream:  the number of an event → which stream of a row's random numbers its choices are drawn by
    """
    budget = budget.clamp(min=1, max=length)
    weights, bias = head.item_weights()
    names = ("item", *details.names)
    features = {name: torch.zeros(len(budget), length, dtype=torch.int32, device=bias.device) for name in names}
    rows = torch.arange(len(budget), device=bias.device)
    for event in range(int(budget.max())):
        of_unknown, *points = chance.uniform(seed, stream(event), 1 + len(names)).float().unbind(1)
        column, inside = length - budget + event, event < budget
        chosen = torch.zeros((), device=bias.device)
        for name, point in zip(names, points, strict=True):
            if name == "item":
                code = chance.choice(torch.addmm(bias, head.represent(state), weights.T), point)
                code = torch.where(of_unknown < torch.sigmoid(unknown.logit(state)), UNKNOWN, code)
            else:
                code = 1 + chance.choice(details.logits(name, state, chosen), point)
            features[name][rows[inside], column[inside]] = code[inside].int()
            chosen = chosen + embeddings[name](code)
        state = advance(chosen, event)
    written = budget.int()
    return Batch(features=features, length=written, fresh=written, recency=torch.full_like(written, UNKNOWN))
