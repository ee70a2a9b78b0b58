"""blend: a network and counted models, ranked together by a small network that learns whom to believe when.

Networks generalise, counts remember: each is right where the other is not. All of them propose items; a perceptron with one hidden
layer then scores each candidate by what every one of them says of it, how popular it is, how often and how lately the user had it, and how
much is known of the user. It learns on rows that none of them learnt from, as stacked generalisation asks for (Wolpert 1992).

Legend: B rows, T events, I items, C candidates of a row, K targets of a row, F features of a candidate.
"""

from collections.abc import Iterator, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer

from foretaste.contract import FIRST_INDEX, PAD, Batch
from foretaste.models.counted import Counted, last_known
from foretaste.models.losses import Loss
from foretaste.models.model import Model
from foretaste.models.own_events import NUM_OWN, own_events
from foretaste.models.transitions import Transitions

SCORES_AT_ONCE = 1 << 23  # of one expert: 32 MB
_FLOOR = 1e-6  # shares below it say the same: hardly ever
_SHIFT, _SCALE = 9.0, 3.0  # bring log shares to about ± 1


class Blend(nn.Module):
    """network: fitted, and left as it is; experts: counted models by name.

    candidates:     C, how many items are ranked anew: those with the largest mean share
    hidden:         units of the perceptron
    next_only:      learn the first item of the label alone: what comes next; else all of them, a row's targets weighing 1 together
    leave_out_seen: items of the row's history are no candidates
    """

    def __init__(
        self,
        *,
        label: str,
        network: Model,
        experts: Mapping[str, Counted],
        candidates: int = 100,
        hidden: int = 32,
        next_only: bool = True,
        leave_out_seen: bool = False,
    ) -> None:
        super().__init__()
        self.label, self.candidates, self.next_only, self.leave_out_seen = label, candidates, next_only, leave_out_seen
        self.network = network.requires_grad_(False)
        self.experts = nn.ModuleDict(experts)
        num_trails = sum(isinstance(expert, Transitions) for expert in experts.values())
        self.hidden = nn.Linear(1 + len(experts) + num_trails + NUM_OWN + 3, hidden)
        self.out = nn.Linear(hidden, 1, bias=False)  # the same for all candidates changes nothing
        self.noise = torch.Generator()  # as the loop expects of a model; nothing is drawn here

    def train(self, mode: bool = True) -> "Blend":
        super().train(mode)
        self.network.eval()  # no dropout in what is only listened to
        return self

    def optimizers(self, *, learning_rate: float, weight_decay: float) -> dict[str, Optimizer]:
        """One AdamW over the perceptron."""
        parameters = [*self.hidden.parameters(), *self.out.parameters()]
        return {"main": torch.optim.AdamW(parameters, lr=learning_rate, weight_decay=weight_decay)}

    def step(self, batch: Batch[Tensor]) -> Iterator[Loss]:
        """The cross-entropy of a row's targets among its candidates. A target that is none of them teaches nothing."""
        totals, counts = [self.out.weight.sum() * 0.0], [torch.zeros((), device=self.out.weight.device)]  # where no row has a target
        given = (self._targets(batch) >= FIRST_INDEX).any(1).nonzero().squeeze(1)
        for part in self._parts(batch.map(lambda array: array.index_select(0, given))):
            candidate, logits, _ = self._ranked(part)
            targets = self._targets(part)
            known = torch.where(targets >= FIRST_INDEX, targets, -1)
            hit = (candidate[:, :, None] == known[:, None, :]).any(2)  # (B, C)
            num_hits = hit.sum(1)
            losses = -(F.log_softmax(logits, dim=1) * hit).sum(1) / num_hits.clamp(min=1)
            totals.append(losses.sum())
            counts.append((num_hits > 0).sum().float())
        yield Loss(optimizer="main", total=torch.stack(totals).sum(), count=torch.stack(counts).sum())

    def _targets(self, batch: Batch[Tensor]) -> Tensor:
        """(B, K): K is 1 where what comes next is all that is asked for."""
        return batch.labels[self.label][:, :1] if self.next_only else batch.labels[self.label]

    def score(self, batch: Batch[Tensor]) -> Tensor:
        """(B, I): the logarithm of each item's probability, PAD and UNKNOWN at -inf. Candidates share their mass as they are ranked."""
        scored = []
        for part in self._parts(batch):
            candidate, logits, share = self._ranked(part)
            mass = share.gather(1, candidate).sum(1, keepdim=True)
            scored.append(share.scatter(1, candidate, torch.softmax(logits, dim=1) * mass).log())
        return torch.cat(scored)

    def logits_of(self, batch: Batch[Tensor], target: Tensor, state: Tensor, log_total: Tensor) -> Tensor:
        """(B, k): how the ranker scores these items, up to a constant of the row, as if they were candidates. Nothing is done for others.

        state: (B, D), of the network's `represent`; log_total: (B, 1), the logarithm of what its shares are divided by, of these rows, or,
        near enough and without a score for every item, of rows that they differ little from
        """
        weights, bias = self.network.item_weights()
        said = torch.einsum("bd,bkd->bk", state, weights[target]) + bias[target]
        opinions = [(said - log_total).exp()]
        for expert in self.experts.values():
            assert isinstance(expert, Counted)
            opinions += expert.opinions_of(batch, target)
        return self._logits(batch, target, opinions)

    def _logits(self, batch: Batch[Tensor], candidate: Tensor, opinions: list[Tensor]) -> Tensor:
        """(B, C), from what each one says of the candidates, (B, C) each."""
        features = [((opinion + _FLOOR).log() + _SHIFT) / _SCALE for opinion in opinions]
        features += [*own_events(batch, candidate).unbind(2), *self._context(batch.item.long(), candidate)]
        logits: Tensor = self.out(F.gelu(self.hidden(torch.stack(features, dim=2)))).squeeze(2)  # (B, C, F) → (B, C)
        return logits

    def _ranked(self, batch: Batch[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """(B, C) items, (B, C) their logits, and (B, I) the mean share of each item."""
        item = batch.item.long()
        with torch.no_grad():
            opinions = list(self._opinions(batch))  # (B, I) each
            share = opinions[0] + torch.stack(opinions[1:]).mean(0) if len(opinions) > 1 else opinions[0].clone()
            if self.leave_out_seen:
                share.scatter_(1, item, 0.0)
            share[:, :FIRST_INDEX] = 0.0
            share /= share.sum(1, keepdim=True).clamp(min=_FLOOR)
            candidate = share.topk(min(self.candidates, share.shape[1] - FIRST_INDEX), dim=1).indices  # (B, C)
            of_candidates = [opinion.gather(1, candidate) for opinion in opinions]
        return candidate, self._logits(batch, candidate, of_candidates), share

    def _opinions(self, batch: Batch[Tensor]) -> Iterator[Tensor]:
        """Each one's shares of all items, (B, I) not negative: the network first."""
        yield torch.softmax(self.network.score(batch), dim=1)
        for expert in self.experts.values():
            assert isinstance(expert, Counted)
            yield from expert.opinions(batch)

    def _context(self, item: Tensor, candidate: Tensor) -> list[Tensor]:
        """(B, C) each: how popular the candidate is, how long the row is, and how often its last item was counted."""
        first = next(iter(self.experts.values()))
        assert isinstance(first, Counted)
        popularity = first.shares()  # (I,)
        length = (item > PAD).sum(1, keepdim=True).float().clamp(min=1).log() / 2.0
        last = popularity[last_known(item)][:, None]
        return [
            ((popularity[candidate] + _FLOOR).log() + _SHIFT) / _SCALE,
            length.expand(candidate.shape),
            (((last + _FLOOR).log() + _SHIFT) / _SCALE).expand(candidate.shape),
        ]

    def _parts(self, batch: Batch[Tensor]) -> Iterator[Batch[Tensor]]:
        first = next(iter(self.experts.values()))
        assert isinstance(first, Counted)
        rows = max(1, SCORES_AT_ONCE // first.num_items)
        for start in range(0, len(batch.length), rows):
            yield batch.map(lambda array, start=start: array[start : start + rows])  # type: ignore[misc]
