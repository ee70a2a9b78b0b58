"""What a model's states are turned into: a score for every item, one logit a user, one a day, or counts; each with its training signal.

Batches are left-aligned here (see rows.py). A head first selects what it learns from, (N, …) inputs and (N,) answers, from each part of a
batch, and then sums its loss over all of them.
"""

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from foretaste.contract import CODED_FACTS, FIRST_INDEX, NUM_GAP_BUCKETS, Batch
from foretaste.models.content import ContentEmbedding
from foretaste.models.losses import Objective, binary_cross_entropy, cross_entropy, sampled, survival_loss
from foretaste.models.negatives import Negatives, log_uniform
from foretaste.models.rows import last

TRUTH = "truth"
"""A feature that no model reads: the items as they happened, where `item` was changed to learn from (see training/augment.py)."""

RECENCY_WIDTH = 16
CODE_WIDTH = 4
AMOUNTS = "amounts"
LEAST_SHARE = 1e-4
FEW = -3.0  # the logit of a hazard to start from: one in twenty comes on a day
FACT_SCALE = 4.0  # log1p of a month's hours is 6.6
LEAST_DISPERSION = 1e-4  # a Poisson distribution, nearly
INIT_STD = 0.1  # of embeddings: N(0, 1) would start a tied softmax far from the popularity that its bias starts at


class ItemsHead(nn.Module):
    """Which item comes next: a score for each of the vocabulary; its item vectors are the input embedding (`tied`) or its own.

    Legend: H width of states, D width of item vectors, I items with PAD and UNKNOWN, N targets of a batch.
    """

    def __init__(
        self, *, width: int, num_items: int, tied: nn.Embedding | ContentEmbedding | None, with_bias: bool = True, objective: Objective
    ) -> None:
        super().__init__()
        self.objective = objective
        self.tied = (tied,)  # in a tuple, it is not part of this module: it is stored and moved once, by its owner
        if tied is None:
            self.own = nn.Parameter(torch.empty(num_items, width))
            nn.init.normal_(self.own, std=INIT_STD)
        dim = width if tied is None else tied.embedding_dim
        self.project = nn.Identity() if dim == width else nn.Linear(width, dim)
        popularity = log_uniform(num_items - FIRST_INDEX)
        self.negatives = Negatives(objective.draws, objective.exponent, popularity) if objective.draws else None
        zeros = torch.zeros(num_items - FIRST_INDEX)
        if with_bias:
            self.bias = nn.Parameter(zeros)
            self.follow({"popularity": popularity})
        else:
            self.register_buffer("bias", zeros, persistent=False)
        self.with_bias = with_bias
        self.register_buffer("never", torch.full((FIRST_INDEX,), -torch.inf), persistent=False)

    def follow(self, tables: Mapping[str, Tensor]) -> None:
        """Starts at the `popularity` of Plan.tables and draws negatives by it. Until then it is the vocabulary's order."""
        popularity = tables["popularity"]
        if isinstance(self.bias, nn.Parameter) and self.objective.name != "bpr_max":  # that one keeps scores near 0
            self.bias.data.copy_((popularity.double() / popularity.sum()).log())
        if self.negatives is not None:
            self.negatives.follow(popularity.to(self.bias.device))

    def represent(self, state: Tensor) -> Tensor:
        return self.project(state)  # type: ignore[no-any-return]  # (B, H) → (B, D)

    def item_weights(self) -> tuple[Tensor, Tensor]:
        """(I, D) and (I,); PAD and UNKNOWN have the bias -inf, so that nobody ever predicts them."""
        assert isinstance(self.never, Tensor)
        weights = self.own if self.tied[0] is None else self.tied[0].weight
        return weights, torch.cat([self.never, self.bias])

    def score(self, state: Tensor, batch: Batch[Tensor]) -> Tensor:
        weights, bias = self.item_weights()
        return torch.addmm(bias, self.represent(state), weights.T)  # (B, I)

    def select(self, states: Tensor, batch: Batch[Tensor], label: str) -> tuple[Tensor, Tensor]:
        """(N, D) and (N,): the states that have a target, and the targets."""
        where, targets = next_item_targets(batch, label)
        return self.represent(states.flatten(0, 1).index_select(0, where)), targets

    def loss(self, chosen: Tensor, targets: Tensor, noise: torch.Generator) -> Tensor:
        weights = self.item_weights()[0][FIRST_INDEX:]
        answers = targets - FIRST_INDEX
        if self.negatives is None:
            return cross_entropy(chosen, weights, self.bias, answers, self.objective.label_smoothing)
        drawn = self.negatives.draw(noise)
        return sampled(self.objective, chosen, weights, self.bias, answers, drawn, self.negatives.log_expected_count)


def next_item_targets(batch: Batch[Tensor], label: str, *, least: int = FIRST_INDEX) -> tuple[Tensor, Tensor]:
    """Which states learn from which items: indices into the flattened (B * T) states, and items; both (N,) int64.

    The state after an event predicts the event that follows it, where that is one of the row's `fresh` last ones: however much windows
    overlap, no event is a target twice that way. The last state predicts the first item of the label, so that windows without overlap
    lose no target; where they overlap, that one item a window counts twice. PAD and UNKNOWN are no targets, but UNKNOWN with `least`
    UNKNOWN.
    """
    item = batch.features.get(TRUTH, batch.item)  # (B, T)
    end = (batch.length.long() - 1).clamp(min=0)[:, None]
    following = torch.cat([item[:, 1:], torch.zeros_like(item[:, :1])], dim=1)
    following = following.scatter(1, end, batch.labels[label][:, :1].to(item.dtype))
    position = torch.arange(item.shape[1], device=item.device)
    fresh = position + 1 >= (batch.length - batch.fresh)[:, None]
    inside = position < batch.length[:, None]
    where = (fresh & inside & (following >= least)).flatten().nonzero().squeeze(1)
    return where, following.flatten().index_select(0, where).long()


class _RowHead(nn.Module):
    """Something of a row as a whole, from the state after its last event, how long ago that was (`recency`), and its `facts`.

    Facts go in twice, into the layer of hidden units and straight to the answer: few rows teach a line through facts sooner than a network
    (wide and deep; Cheng et al. 2016). With `follow` that way straight starts where a logistic regression ends.
    """

    def __init__(self, *, width: int, facts: tuple[str, ...] = (), outputs: int = 1) -> None:
        super().__init__()
        self.amounts = tuple(name for name in facts if name not in CODED_FACTS)
        self.codes = nn.ModuleDict({name: nn.Embedding(CODED_FACTS[name], CODE_WIDTH) for name in facts if name in CODED_FACTS})
        self.recency = nn.Embedding(NUM_GAP_BUCKETS, RECENCY_WIDTH)
        self.hidden = nn.Linear(width + RECENCY_WIDTH + len(self.amounts) + CODE_WIDTH * len(self.codes), width)
        self.out = nn.Linear(width, outputs)
        self.wide = nn.ModuleDict({name: nn.Embedding(CODED_FACTS[name], 1) for name in self.codes})
        if self.amounts:
            self.wide[AMOUNTS] = nn.Linear(len(self.amounts), 1, bias=False)
        for weight in self.wide.parameters():
            nn.init.zeros_(weight)
        nn.init.normal_(self.recency.weight, std=INIT_STD)

    def answer(self, state: Tensor, batch: Batch[Tensor]) -> Tensor:
        amounts = [batch.facts[name].to(state.dtype).log1p()[:, None] for name in self.amounts]
        codes = [table(batch.facts[name]) for name, table in self.codes.items()]
        scaled = [amount / FACT_SCALE for amount in amounts]
        known = torch.cat([state, self.recency(batch.recency), *scaled, *codes], dim=1)  # (B, H + R + facts)
        answer: Tensor = self.out(torch.relu(self.hidden(known)))  # (B, outputs)
        for name, line in self.wide.items():
            answer = answer + line(torch.cat(amounts, dim=1) if name == AMOUNTS else batch.facts[name])
        return answer

    @torch.no_grad()
    def follow(self, tables: Mapping[str, Tensor], arm: int = 0) -> None:
        """Starts at the logistic regression of Plan.tables, where there is one, and with nothing else."""
        own = f"line.{arm}."
        line = {name.removeprefix(own): values for name, values in tables.items() if name.startswith(own)}
        if not line:
            return
        slope, offset = self.link(float(line["share"]))
        for name in self.codes:
            self.wide[name].weight.copy_(slope * line[name][:, None])  # type: ignore[operator]
        if self.amounts:
            self.wide[AMOUNTS].weight.copy_(slope * torch.cat([line[name] for name in self.amounts])[None])  # type: ignore[operator]
        self.out.bias.fill_(slope * float(line["intercept"]) + offset)
        nn.init.zeros_(self.out.weight)

    def link(self, share: float) -> tuple[float, float]:
        """Slope and offset: what each output is of the answer's logit, near the share of all rows with that answer."""
        return 1.0, 0.0


class BinaryHead(_RowHead):
    """Will it happen: one logit."""

    def score(self, state: Tensor, batch: Batch[Tensor]) -> Tensor:
        return self.answer(state, batch).squeeze(1)  # (B,)

    def select(self, states: Tensor, batch: Batch[Tensor], label: str) -> tuple[Tensor, Tensor]:
        """(B,) and (B,): logits and labels."""
        return self.score(last(states, batch.length), batch), batch.labels[label]

    def loss(self, logits: Tensor, labels: Tensor, noise: torch.Generator) -> Tensor:
        return binary_cross_entropy(logits, labels)


class SurvivalHead(_RowHead):
    """When will somebody come: a hazard for each of D days, the chance to come on that day for who did not come before.

    Trained on all that is known of a row, also where its split ends before the answer: such a row tells that nobody came until then
    (discrete-time survival; Gensheimer & Narasimhan 2019, A scalable discrete-time survival model for neural networks).
    """

    sign = 1.0

    def __init__(self, *, width: int, facts: tuple[str, ...], days: int) -> None:
        super().__init__(width=width, facts=facts, outputs=days)
        nn.init.constant_(self.out.bias, FEW)

    def score(self, state: Tensor, batch: Batch[Tensor]) -> Tensor:
        """(B,): the logit of the chance that nobody comes in all D days."""
        stays_away = self.log_survival(self.answer(state, batch))[:, -1]
        return self.sign * (stays_away - torch.log(-torch.expm1(stays_away.clamp(max=-1e-7))))

    def link(self, share: float) -> tuple[float, float]:
        """A hazard alike on all D days: 1 - p = (1 - h)^D with p the chance to come. To first order, h being small:
        d logit h / d logit p = p / -log(1 - p).
        """
        came = min(max(share if self.sign < 0 else 1 - share, LEAST_SHARE), 1 - LEAST_SHARE)
        stays = math.log1p(-came)  # in all D days
        hazard = -math.expm1(stays / self.out.out_features)
        slope = came / -stays
        offset = math.log(hazard / (1 - hazard)) - slope * math.log(came / (1 - came))
        return -self.sign * slope, offset

    @staticmethod
    def log_survival(hazards: Tensor) -> Tensor:
        """(B, D) logits of hazards → (B, D), the log of the chance that nobody came up to and on each day."""
        return -F.softplus(hazards.float()).cumsum(1)

    def select(self, states: Tensor, batch: Batch[Tensor], label: str) -> tuple[Tensor, Tensor]:
        """(B, D) and (B, 2): logits of hazards, and labels as contract.answers_of has them."""
        return self.answer(last(states, batch.length), batch), batch.labels[label]

    def loss(self, hazards: Tensor, labels: Tensor, noise: torch.Generator) -> Tensor:
        return survival_loss(hazards, labels)


class UpliftHead(nn.Module):
    """How much likelier somebody comes because of being reached: a head for those who were left out and one for those who were reached, on
    one encoder (a T-learner whose two models share what they read; Shalit, Johansson & Sontag 2017, TARNet).
    """

    def __init__(self, *, width: int, facts: tuple[str, ...], days: int) -> None:
        super().__init__()
        self.arms = nn.ModuleList(IncidenceHead(width=width, facts=facts, days=days) for _ in range(2))

    def follow(self, tables: Mapping[str, Tensor]) -> None:
        """Each arm as a head of its own does."""
        for number, arm in enumerate(self._arms()):
            arm.follow(tables, number)

    def logits(self, state: Tensor, batch: Batch[Tensor]) -> Tensor:
        """(B, 2): of the chance that somebody comes in all D days, left out and reached."""
        return torch.stack([arm.score(state, batch) for arm in self._arms()], dim=1)

    def score(self, state: Tensor, batch: Batch[Tensor]) -> Tensor:
        """(B,): a difference of two chances, from -1 to 1."""
        left_out, reached = torch.sigmoid(self.logits(state, batch)).unbind(1)
        return reached - left_out

    def select(self, states: Tensor, batch: Batch[Tensor], label: str) -> tuple[Tensor, Tensor]:
        """(B, D) logits of hazards in the arm that each row was in, and (B, 2) of its label, as contract.answers_of has them."""
        state, told = last(states, batch.length), batch.labels[label]
        hazards = torch.stack([arm.answer(state, batch) for arm in self._arms()], dim=1)  # (B, 2, D)
        return hazards[torch.arange(len(hazards), device=hazards.device), told[:, 2].long()], told[:, :2]

    def loss(self, hazards: Tensor, labels: Tensor, noise: torch.Generator) -> Tensor:
        return survival_loss(hazards, labels)

    def _arms(self) -> list["IncidenceHead"]:
        return [arm for arm in self.arms if isinstance(arm, IncidenceHead)]


class CountsHead(nn.Module):
    """How many units: a negative binomial of each state, in units of the row's own scale.

    Its mean is m and its variance m + m² / shape; the shape grows with the scale, as that of a sum of many small demands does.
    """

    def __init__(self, *, width: int) -> None:
        super().__init__()
        self.out = nn.Linear(width, 2)

    def distribution(self, state: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and shape, (…,), of states (…, H) and scales (…, 1)."""
        mean, dispersion = F.softplus(self.out(state).float()).unbind(-1)  # (…,)
        return mean * scale.squeeze(-1), scale.squeeze(-1).sqrt() / dispersion.clamp(min=LEAST_DISPERSION)


class IncidenceHead(SurvivalHead):
    """The same, and its score is the logit of the chance that somebody does come."""

    sign = -1.0
