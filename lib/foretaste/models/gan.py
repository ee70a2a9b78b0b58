"""gan: a generator that writes rows of behaviour and a discriminator that tells them from real ones, each learning from the other
(Goodfellow et al. 2014, Generative adversarial nets).

The generator is a GRU that starts from noise and what is asked for, and writes event after event: which item, then what goes with it.
It learns by likelihood from the first step, and against the discriminator, too, after `anneal_steps`: of discrete sequences, adversaries
alone fall behind plain likelihood (Caccia et al. 2020, Language GANs falling short), while a model that learns by likelihood alone never
reads what it wrote itself. No gradient passes through a discrete choice, so it goes forward as one code and backward as its Gumbel-softmax
(straight through: Jang et al. 2017, Maddison et al. 2017). Policy gradients, as in SeqGAN, need no such bias; but one reward for a whole
row of choices among thousands is so noisy that they need many roll-outs a row, where this needs one.

Legend: B rows, T events, E embedding, H units of the top layer, Z latent numbers, M items that a roll-out chooses from.
"""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer

from foretaste.contract import FIRST_INDEX, UNKNOWN, Batch
from foretaste.errors import ModelError
from foretaste.models import chance
from foretaste.models.conditions import Asked, Conditions, conditions_of
from foretaste.models.details import WRITTEN, Details, Unknown
from foretaste.models.discriminator import Discriminator, discriminator_loss, generator_loss, gradient_penalty
from foretaste.models.heads import INIT_STD
from foretaste.models.losses import Loss
from foretaste.models.model import Health, Model
from foretaste.models.presets import ADVERSARIAL
from foretaste.models.resemblance import Resemblance
from foretaste.models.rows import left_aligned
from foretaste.models.writing import write

ASKED_SHARE = 0.5  # of each condition in training: what was never left out could not be left unasked
WATCHED = 4  # of the validation rows one in so many is watched: a roll-out costs as much as training
SETTLED = 300  # steps against the discriminator after which neither is just young
_Z, _KEPT, _BETWEEN, _FIRST_EVENT = 0, 1, 2, 16  # streams of a row's random numbers (chance.py)


class GAN(Model):
    """features: `item` and any of WRITTEN; all of them are written.

    latent: Z; anneal_steps: likelihood alone until then
    adversary: wasserstein, with a gradient penalty of `gradient_weight`, or minimax, whose generator does not saturate
    adversarial_weight: of the discriminator's word on a row, against the row's log-likelihood; temperature: of the Gumbel-softmax
    """

    presets = ADVERSARIAL
    reads_categories: ClassVar[bool] = True
    writes: ClassVar[bool] = True
    keeps_last: ClassVar[bool] = True
    steps: Tensor
    popularity: Tensor
    category_of_item: Tensor

    def __init__(
        self,
        *,
        head: str,
        features: tuple[str, ...],
        embedding: int,
        hidden: tuple[int, ...],
        dropout: float,
        latent: int,
        adversary: str,
        adversarial_weight: float,
        gradient_weight: float,
        temperature: float,
        anneal_steps: int,
        **others: Any,
    ) -> None:
        if head != "items":
            raise ModelError("a GAN writes rows of items, and nothing else", where="model.name", fix="Choose another model.")
        if "item" not in features or set(features) - set(WRITTEN):
            raise ModelError(
                "a GAN writes what it reads, and that is items with their events, gaps and sessions",
                where="model.features",
                fix=f"Use item and any of {', '.join(WRITTEN[1:])}.",
            )
        features = tuple(name for name in WRITTEN if name in features)
        super().__init__(head=head, features=features, embedding=embedding, width=hidden[-1], **others)
        sizes = others["sizes"]
        self.latent, self.length = latent, sizes.length
        self.adversary, self.adversarial_weight, self.gradient_weight = adversary, adversarial_weight, gradient_weight
        self.temperature, self.anneal_steps = temperature, anneal_steps
        self.num_codes = {name: sizes.of(name) for name in features}
        self.widths = (embedding, *hidden)
        self.layers = nn.ModuleList(nn.GRU(width, units, batch_first=True) for width, units in pairwise(self.widths))
        self.dropout = nn.Dropout(dropout)
        self.asked = Asked(length=sizes.length, num_categories=sizes.num_categories, embedding=embedding)
        self.from_z = nn.Linear(latent, embedding)
        nn.init.normal_(self.from_z.weight, std=INIT_STD / math.sqrt(latent))  # or noise drowns what happened, whose vectors are as short
        nn.init.zeros_(self.from_z.bias)
        self.starts = nn.ModuleList(nn.Linear(embedding, units) for units in hidden)
        self.details = Details(num_codes={name: self.num_codes[name] for name in features[1:]}, width=hidden[-1], embedding=embedding)
        self.unknown = Unknown(width=hidden[-1])
        self.discriminator = Discriminator(features=features, sizes=sizes, embedding=embedding)
        self.resemblance = Resemblance()
        self.num_observed = 2 + self.resemblance.num_sums
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self.register_buffer("popularity", torch.ones(sizes.num_items))
        self.register_buffer("category_of_item", torch.zeros(sizes.num_items, dtype=torch.int64))

    # What it shares with every model: states, scores, optimizers.

    def follow(self, tables: Mapping[str, Tensor]) -> None:
        super().follow(tables)
        self.popularity[FIRST_INDEX:] = tables["popularity"]
        if "category" in tables:
            self.category_of_item.copy_(tables["category"])

    def encode(self, batch: Batch[Tensor]) -> Tensor:
        """The states without noise, and with nothing asked for."""
        device = batch.length.device
        context = self.context(torch.zeros(len(batch.length), self.latent, device=device), Conditions.none(len(batch.length), device))
        return self._states(batch, context)[:, 1:]

    def optimizers(self, *, learning_rate: float, weight_decay: float) -> dict[str, Optimizer]:
        """One for each player; the discriminator's forgets sooner, as the gradient penalty's authors have it."""
        of = {"discriminator": list(self.discriminator.parameters())}
        of["generator"] = [parameter for name, parameter in self.named_parameters() if not name.startswith("discriminator.")]
        betas = {"discriminator": (0.5, 0.9), "generator": (0.9, 0.999)}
        return {
            name: torch.optim.AdamW(parameters, lr=learning_rate, weight_decay=weight_decay, betas=betas[name], fused=True)
            for name, parameters in of.items()
        }

    def step(self, batch: Batch[Tensor]) -> Iterator[Loss]:
        """The discriminator's loss on real and written rows, then the generator's, which the discriminator judges but is not moved by.

        Both are sums over rows, and the random numbers are the rows' own: any number of ranks takes the steps of one process. The loop
        adds gradients up itself, a named all-reduce an optimizer, so that no rank ever waits for a gradient that the other player owns.
        """
        self.steps += 1
        real = left_aligned(batch)
        rows = torch.tensor(float(len(real.length)), device=real.length.device)
        seed = chance.seeds(len(real.length), self.noise, self.place).to(real.length.device)
        asked = conditions_of(real, self.category_of_item, self.popularity)
        z = chance.normal(seed, _Z, self.latent)
        kept = asked.kept(chance.uniform(seed, _KEPT, 4) < ASKED_SHARE)
        context = self.context(z, kept)
        written: dict[str, tuple[Tensor, Tensor]] | None = None
        if int(self.steps) > self.anneal_steps and self.adversarial_weight > 0:
            written = self.roll_out(context, int(real.length.max()))
            yield Loss(optimizer="discriminator", total=self._against(real, written, kept, seed), count=rows)
        total = self.likelihood(real, context)
        if written is not None:
            with _frozen(self.discriminator):
                word = self.discriminator(self.discriminator.read_choices(written), real.length, kept)
            total = total + self.adversarial_weight * generator_loss(self.adversary, word)
        yield Loss(optimizer="generator", total=total, count=rows)

    # The generator.

    def context(self, z: Tensor, asked: Conditions) -> Tensor:
        """(B, E) that goes into each event, of (B, Z) noise and what is asked for."""
        return self.from_z(z) + self.asked(asked, self._items())  # type: ignore[no-any-return]

    def likelihood(self, real: Batch[Tensor], context: Tensor, *, exact: bool = False) -> Tensor:
        """(): minus the logarithm of what left-aligned rows are worth, summed: of each event, given those before it.

        Of an unknown item that it is unknown counts, and what goes with it. With negatives in `fit.loss` the items' part is estimated from
        those, unless it is to be `exact`.
        """
        states = self._states(real, context)[:, :-1]  # (B, T, H), of event t the state before it
        inside = torch.arange(real.item.shape[1], device=real.length.device) < real.length[:, None]
        state, item = states[inside], real.item[inside].long()  # (N, H), (N,)
        known = (item >= FIRST_INDEX).nonzero().squeeze(1)
        head = self._items_head()
        chosen = head.represent(state[known])
        if exact:
            weights, bias = (part[FIRST_INDEX:] for part in head.item_weights())
            total = F.cross_entropy(torch.addmm(bias, chosen, weights.T), item[known] - FIRST_INDEX, reduction="sum")
        else:
            total = head.loss(chosen, item[known], self.noise)
        total = total + self.unknown.loss(state, item)
        codes = {name: real.features[name][inside] for name in self.details.names}
        return total + self.details.loss(state, self.embeddings["item"](item), codes, self.embeddings)

    def roll_out(self, context: Tensor, length: int) -> dict[str, tuple[Tensor, Tensor]]:
        """Rows as choices: of each feature (B, length, n) that are 1 at one code and 0 elsewhere, with the gradient of a softmax, and the
        (n,) codes. Items are chosen from a step's negatives, where it has some, each as likely as among all.
        """
        head = self._items_head()
        weights, bias = head.item_weights()
        items = torch.arange(FIRST_INDEX, len(bias), device=bias.device)
        offset = bias[items]
        if head.negatives is not None:
            drawn = head.negatives.draw(self.noise).to(bias.device)
            items, offset = drawn + FIRST_INDEX, bias[drawn + FIRST_INDEX] - head.negatives.log_expected_count(drawn)
        vectors = weights[items]  # (M, D)
        noise = torch.Generator().manual_seed(
            int(torch.randint(1 << 62, (1,), generator=self.noise))
        )  # ranks roll out for longer or shorter
        unknown = torch.full((1,), UNKNOWN, device=bias.device)
        codes = {name: torch.arange(1, self.num_codes[name], device=bias.device) for name in self.details.names}
        codes = {"item": torch.cat([unknown, items]), **codes}
        made: dict[str, list[Tensor]] = {name: [] for name in codes}
        hidden = self._starts(context)
        state = hidden[-1]
        for _ in range(length):
            chosen = torch.zeros((), device=bias.device)
            for name in codes:
                if name == "item":
                    of_unknown = self.unknown.logit(state)
                    either = self._choice(torch.stack([of_unknown, torch.zeros_like(of_unknown)], dim=1), noise)  # (B, 2): unknown, known
                    choice = torch.cat(
                        [either[:, :1], either[:, 1:] * self._choice(torch.addmm(offset, head.represent(state), vectors.T), noise)], dim=1
                    )
                else:
                    choice = self._choice(self.details.logits(name, state, chosen), noise)
                made[name].append(choice)
                chosen = chosen + choice @ self.embeddings[name](codes[name])
            state, hidden = self._advance(chosen + context, hidden)
        return {name: (torch.stack(choices, dim=1), codes[name]) for name, choices in made.items()}

    def _choice(self, logits: Tensor, noise: torch.Generator) -> Tensor:
        """(B, n): a draw from the softmax of the logits, as 1 at its place."""
        of_rows = chance.gumbel(len(logits), logits.shape[1], noise, self.place)
        return straight_through(logits, of_rows.to(logits.device), self.temperature)

    @torch.no_grad()
    def draw(self, conditions: Conditions, seed: Tensor) -> Batch[Tensor]:
        """Rows that nobody wrote, left-padded to the model's length; each depends on its seed and conditions alone. It holds (B, I)."""
        context = self.context(chance.normal(seed, _Z, self.latent), conditions)
        hidden = self._starts(context)

        def advance(event: Tensor, _: int) -> Tensor:
            nonlocal hidden
            state, hidden = self._advance(event + context, hidden)
            return state

        return write(
            budget=conditions.budget,
            length=self.length,
            seed=seed,
            state=hidden[-1],
            advance=advance,
            stream=lambda event: _FIRST_EVENT + event,
            head=self._items_head(),
            unknown=self.unknown,
            details=self.details,
            embeddings=self.embeddings,
        )

    def _states(self, batch: Batch[Tensor], context: Tensor) -> Tensor:
        """(B, 1 + T, H) of left-aligned rows: before the first event, and after each."""
        starts = self._starts(context)
        states = self.dropout(self.embedded(batch)) + context[:, None, :]  # (B, T, E)
        for layer, start in zip(self.layers, starts, strict=True):
            states = self.dropout(layer(states, start[None].contiguous())[0])
        return torch.cat([starts[-1][:, None, :], states], dim=1)

    def _starts(self, context: Tensor) -> list[Tensor]:
        """(B, units) of each layer before the first event."""
        return [torch.tanh(start(context)) for start in self.starts]

    def _advance(self, event: Tensor, hidden: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """The top layer's state and all layers' after one more event, (B, E)."""
        states, after = event[:, None, :], []
        for layer, before in zip(self.layers, hidden, strict=True):
            states, last = layer(states, before[None].contiguous())
            after.append(last[0])
        return after[-1], after

    # The discriminator.

    def _against(self, real: Batch[Tensor], written: Mapping[str, tuple[Tensor, Tensor]], asked: Conditions, seed: Tensor) -> Tensor:
        """(): its loss, with the penalty on its slope between each real row and the one that was written for the same conditions."""
        critic = self.discriminator
        truth = critic.read({name: real.features[name].long() for name in critic.tables})
        fake = critic.read_choices({name: (share.detach(), codes) for name, (share, codes) in written.items()})
        total = discriminator_loss(self.adversary, critic(truth, real.length, asked), critic(fake, real.length, asked))
        if self.adversary == "wasserstein":
            between = chance.uniform(seed, _BETWEEN, 1).squeeze(1)
            total = total + self.gradient_weight * gradient_penalty(critic, truth, fake, between, real.length, asked)
        return total

    # How both fare.

    def observe(self, batch: Batch[Tensor]) -> Tensor:
        """Of validation rows and of as many written for the same conditions. A row is always answered by the same one."""
        seed = chance.fingerprint(batch.item)
        watched = (seed % WATCHED == 0).nonzero().squeeze(1)
        if len(watched) == 0:
            return torch.zeros(self.num_observed, dtype=torch.float64)
        chosen = batch.map(lambda array: array.index_select(0, watched))
        asked = conditions_of(chosen, self.category_of_item, self.popularity)
        fake = self.draw(asked, seed[watched])
        real = left_aligned(chosen)
        nats = self.likelihood(real, self.context(chance.normal(seed[watched], _Z, self.latent), asked), exact=True)
        told = torch.tensor([float(nats.detach()), float(chosen.length.sum())], dtype=torch.float64)
        words = [
            self.discriminator(self.discriminator.read(aligned.features), aligned.length, asked) for aligned in (real, left_aligned(fake))
        ]
        return torch.cat([told, self.resemblance.sums(chosen, fake, *words)])

    def health(self, observed: Tensor) -> Health:
        """nats: minus the log-likelihood of an event; discriminator_accuracy: the share of pairs in which it finds the real row; the others
        as `Resemblance` has them.

        None of them chooses an epoch: the last is kept. Where rows are few, nats and the distance between pairs of items grow while ranks
        still get better, since a few users' items are not those of others; where they are many, nats fall after ranks stand still.
        """
        settled = int(self.steps) >= self.anneal_steps + SETTLED
        health = self.resemblance.health(observed[2:], settled=settled, against=self.adversary if self.adversarial_weight > 0 else None)
        nats = float(observed[0] / observed[1].clamp(min=1.0))
        return replace(health, metrics={"nats": nats, **health.metrics})

    def activations(self, length: int) -> int:
        embedding, *units = self.widths
        written = length * (self._items_head().bias.numel() if self._items_head().negatives is None else 1024) * 3
        return length * (8 * embedding + 18 * sum(units)) + written

    def _items(self) -> nn.Embedding:
        table = self.embeddings["item"]
        assert isinstance(table, nn.Embedding)
        return table


def straight_through(logits: Tensor, noise: Tensor, temperature: float) -> Tensor:
    """(B, n): 1 at the largest of logits + noise, 0 elsewhere; its gradient is that of their softmax at that temperature."""
    perturbed = logits + noise
    soft = torch.softmax(perturbed / temperature, dim=1)
    hard = torch.zeros_like(soft).scatter_(1, perturbed.argmax(1, keepdim=True), 1.0)
    return hard + (soft - soft.detach())


@contextmanager
def _frozen(module: nn.Module) -> Iterator[None]:
    """Gradients pass through what is computed here, and reach no weight of it."""
    module.requires_grad_(False)
    try:
        yield
    finally:
        module.requires_grad_(True)
