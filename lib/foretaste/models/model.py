"""What every network is: optimizers(), step(batch) and score(batch); a sequence model only adds encode()."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.checkpoint import checkpoint

from foretaste.contract import DAILY, Batch, Sizes
from foretaste.errors import ModelError
from foretaste.models.conditions import Conditions
from foretaste.models.content import ContentEmbedding
from foretaste.models.heads import INIT_STD, BinaryHead, IncidenceHead, ItemsHead, SurvivalHead, UpliftHead
from foretaste.models.losses import Loss, Objective
from foretaste.models.rows import by_length, last, left_aligned


@dataclass(frozen=True, kw_only=True)
class Health:
    """How a model itself fares, whatever its scores are worth.

    metrics: by name; ailment: why it had better learn no further, or None
    """

    metrics: Mapping[str, float]
    ailment: str | None = None


class Model(nn.Module):
    """A network for one head. Legend: B rows, T events, E embedding, H units of the top layer, D width of item vectors.

    A subclass gives `encode`; one with several optimizers (a GAN) gives `optimizers` and `step` too.
    presets:    size → option → value; what a network of that size is built with where settings do not say otherwise
    parts_rows: whether rows of like length are encoded together on a CPU, where padding costs most
    step_rows: of learning, how many rows take as long as a step from event to event does beside them; 0: all events at once
    reads_categories: whether `follow` is to be given the category of each item
    counts: whether it is for head "counts", which no other is
    writes: whether it can `draw`; keeps_last: whether its last epoch is its best, whatever its ranks
    place: (rows of the step's global batch, which of them is the first here), where ranks share it: the loop says so
    latent: how many latent numbers `latents` gives; 0: it has none
    num_observed: how many sums `observe` gives; 0: there is nothing to watch, and neither it nor `health` is asked
    """

    presets: ClassVar[Mapping[str, Mapping[str, Any]]]
    latent: int = 0
    num_observed: int = 0
    parts_rows: ClassVar[bool] = True
    step_rows: int = 0
    reads_categories: ClassVar[bool] = False
    counts: ClassVar[bool] = False
    writes: ClassVar[bool] = False
    keeps_last: ClassVar[bool] = False
    place: tuple[int, int] | None = None

    def __init__(
        self,
        *,
        head: str,
        label: str,
        sizes: Sizes,
        features: tuple[str, ...],
        embedding: int,
        width: int,
        tied: bool,
        output_bias: bool,
        objective: Objective,
        embedding_std: float = INIT_STD,
        checkpoint_activations: bool = False,
        facts: tuple[str, ...] = (),
        content: bool = False,
        reader: "Model | None" = None,
    ) -> None:
        """width: H. Without the feature `item` there is nothing to tie the item vectors to, so they are the head's own.

        content: item vectors are made of what items are (content.py); they are tied then
        facts: what a head that answers for a whole row reads of contract.FACTS
        reader: a variational model, fitted, whose latent numbers of a row such a head reads beside the state; it is left as it is
        """
        super().__init__()
        self.reader = reader.requires_grad_(False) if reader is not None else None
        width_read = width + (reader.latent if reader is not None else 0)
        self.label = label
        self.checkpoint_activations = checkpoint_activations
        self.embeddings = nn.ModuleDict()
        tied_to: nn.Embedding | ContentEmbedding | None = None
        for name in features:
            if name == "item" and content:
                self.embeddings[name] = tied_to = ContentEmbedding(sizes.num_items, embedding, embedding_std)
                continue
            table = nn.Embedding(sizes.of(name), embedding, padding_idx=0)
            nn.init.normal_(table.weight, std=embedding_std)
            table.weight.data[0] = 0.0  # padding_idx
            self.embeddings[name] = table
            tied_to = table if tied and name == "item" else tied_to
        self.head: ItemsHead | BinaryHead | SurvivalHead | UpliftHead
        if (facts or reader is not None) and head == "items":
            key = "facts" if facts else "latents"
            raise ModelError(f"a model that ranks items reads no {key}", where=f"model.{key}", fix="Leave them out.")
        if head == "items":
            self.head = ItemsHead(width=width, num_items=sizes.num_items, tied=tied_to, with_bias=output_bias, objective=objective)
        elif head == "binary":
            self.head = BinaryHead(width=width_read, facts=facts)
        elif head in DAILY:
            kind = SurvivalHead if head == "survival" else IncidenceHead
            self.head = kind(width=width_read, facts=facts, days=sizes.days)
        elif head == "uplift":
            self.head = UpliftHead(width=width_read, facts=facts, days=sizes.days)
        elif head != "counts" or not self.counts:  # that model brings its own
            raise ModelError(f"no head is called {head!r}", where="the task", fix=f"Use items, binary, {', '.join(DAILY)} or uplift.")
        self.noise = torch.Generator()  # for what all ranks must draw alike, such as negatives: the loop seeds it before each step

    def train(self, mode: bool = True) -> "Model":
        super().train(mode)
        if self.reader is not None:
            self.reader.eval()  # no dropout in what is only listened to
        return self

    def encode(self, batch: Batch[Tensor]) -> Tensor:
        """(B, T, H): the state after each event of left-aligned rows (see rows.py)."""
        raise NotImplementedError

    def activations(self, length: int) -> int:
        """About how many numbers one row of `length` events keeps for the backward pass, the head's logits apart."""
        raise NotImplementedError

    def embedded(self, batch: Batch[Tensor]) -> Tensor:
        """(B, T, E): the sum of one embedding for each switched-on feature."""
        first, *others = [table(batch.features[name]) for name, table in self.embeddings.items()]
        total: Tensor = sum(others, start=first)
        return total

    def layer(self, function: Callable[..., Tensor], *inputs: Any) -> Tensor:
        """function(*inputs); with `checkpoint_activations` it is computed once more in the backward pass, instead of kept."""
        if self.checkpoint_activations and self.training:
            return checkpoint(function, *inputs, use_reentrant=False)  # type: ignore[no-any-return]
        return function(*inputs)

    def follow(self, tables: Mapping[str, Tensor]) -> None:
        """Starts at what was counted or fitted before (Plan.tables). Before the first step, not after."""
        self.head.follow(tables)
        if self.content is not None:
            self.content.follow(tables["content"])

    @property
    def content(self) -> ContentEmbedding | None:
        """What makes item vectors of content, where the model has it."""
        table = self.embeddings["item"] if "item" in self.embeddings else None  # noqa: SIM401 - a ModuleDict has no get
        return table if isinstance(table, ContentEmbedding) else None

    def optimizers(self, *, learning_rate: float, weight_decay: float) -> dict[str, Optimizer]:
        """One AdamW over all parameters, by the name that `step` uses. Matrices decay; biases, gains and position tables do not."""
        learnt = [(name, parameter) for name, parameter in self.named_parameters() if parameter.requires_grad]
        decays = [parameter for name, parameter in learnt if parameter.dim() > 1 and "position" not in name]
        others = [parameter for name, parameter in learnt if parameter.dim() <= 1 or "position" in name]
        groups = [
            {"params": decays, "weight_decay": weight_decay, "shrinks": True},
            {"params": others, "weight_decay": 0.0, "shrinks": False},
        ]
        return {"main": torch.optim.AdamW([group for group in groups if group["params"]], lr=learning_rate, fused=True)}

    def step(self, batch: Batch[Tensor]) -> Iterator[Loss]:
        """One Loss for each optimizer, in turn; the loop takes a step on each before it asks for the next."""
        if self.content is not None:
            self.content.redraw(self.noise)
        parts, latents = self._parts(batch), self._latents(batch)
        selected = [self.head.select(_beside(self.encode(part), latents, rows), part, self.label) for rows, part in parts]
        chosen, answers = zip(*selected, strict=True)
        inputs, targets = torch.cat(chosen), torch.cat(answers)
        total = self.head.loss(inputs, targets, self.noise)
        yield Loss(optimizer="main", total=total, count=torch.tensor(float(len(targets)), device=targets.device))

    def score(self, batch: Batch[Tensor]) -> Tensor:
        """(B, num_items) logits of what comes next, PAD and UNKNOWN at -inf; or the (B,) logits of another head."""
        return self.head.score(self._last_states(batch), batch)

    def survival(self, batch: Batch[Tensor]) -> Tensor:
        """(B, D): the chance that nobody comes up to and on each day; only for heads of contract.DAILY."""
        if not isinstance(self.head, SurvivalHead):
            raise ModelError("this model tells no days", where="the task", fix="Ask for its score.")
        return self.head.log_survival(self.head.answer(self._last_states(batch), batch)).exp()

    def factual(self, batch: Batch[Tensor]) -> Tensor:
        """(B,): logits of the chance that somebody comes, left out or reached as the row's label says; only for head "uplift"."""
        if not isinstance(self.head, UpliftHead):
            raise ModelError("this model compares nothing", where="the task", fix="Ask for its score.")
        logits = self.head.logits(self._last_states(batch), batch)
        return logits.gather(1, batch.labels[self.label][:, 2:3].long()).squeeze(1)

    def latents(self, batch: Batch[Tensor]) -> Tensor:
        """(B, latent): a few numbers that say what each row is about; only of a variational model."""
        raise ModelError(f"{type(self).__name__} has no latent numbers", where="model.name", fix="Train a vae or mult_vae.")

    def draw(self, conditions: Conditions, seed: Tensor) -> Batch[Tensor]:
        """Rows that nobody wrote, left-padded to the model's length, of so many conditions and seeds, (B,) int64: see chance.py."""
        raise ModelError(f"{type(self).__name__} writes no sequences", where="model.name", fix="Use gan or vae.")

    def observe(self, batch: Batch[Tensor]) -> Tensor:
        """(num_observed,) float64 on the CPU: sums over validation rows, which ranks add up for `health`."""
        raise NotImplementedError

    def health(self, observed: Tensor) -> Health:
        """From the sums over all validation rows of an epoch."""
        raise NotImplementedError

    def represent(self, batch: Batch[Tensor]) -> Tensor:
        """(B, D): what `item_weights` is multiplied with; only for head "items"."""
        return self._items_head().represent(self._last_states(batch))

    def item_weights(self) -> tuple[Tensor, Tensor]:
        """(num_items, D) and (num_items,): score == represent @ weights.T + bias; only for head "items"."""
        return self._items_head().item_weights()

    def _last_states(self, batch: Batch[Tensor]) -> Tensor:
        """(B, H): the state after each row's last event."""
        parts, latents = self._parts(batch), self._latents(batch)
        states = torch.cat([last(_beside(self.encode(part), latents, rows), part.length) for rows, part in parts])
        return states[torch.argsort(torch.cat([rows for rows, _ in parts]))] if len(parts) > 1 else states

    @torch.no_grad()
    def _latents(self, batch: Batch[Tensor]) -> Tensor | None:
        """(B, Z): what the reader makes of each row; None without one."""
        return None if self.reader is None else self.reader.latents(batch)

    def _parts(self, batch: Batch[Tensor]) -> list[tuple[Tensor, Batch[Tensor]]]:
        """The batch left-aligned, in parts of like length where that is quicker, with each part's rows."""
        aligned = left_aligned(batch)
        if self.parts_rows and not aligned.length.is_cuda:
            # Of a step's cost less is in the way forward than of a row's: see docs/speed.md.
            return by_length(aligned, self.step_rows if self.training else self.step_rows // 3)
        return [(torch.arange(len(aligned.length), device=aligned.length.device), aligned)]

    def _items_head(self) -> ItemsHead:
        if not isinstance(self.head, ItemsHead):
            raise ModelError("this model does not score items", where="head binary", fix="Call score instead.")
        return self.head


def _beside(states: Tensor, latents: Tensor | None, rows: Tensor) -> Tensor:
    """(b, T, H) or, with the latent numbers of these rows beside each state, (b, T, H + Z)."""
    if latents is None:
        return states
    return torch.cat([states, latents[rows][:, None].expand(-1, states.shape[1], -1)], dim=2)
