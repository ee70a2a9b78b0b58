"""What variational models share: a posterior over a few latent numbers, its divergence from the prior, and how it fares.

A row is summed up as q(z | row) = N(mean, exp(log_variance)), and z is decoded into the state that an items head scores from. What is
maximised is the evidence lower bound, E_q[log p(items | z)] - β · KL(q || N(0, I)) (Kingma & Welling 2013, Auto-encoding variational
Bayes), with β rising in a line over the first steps (Bowman et al. 2016) up to `kl_weight` (β-VAE, Higgins et al. 2017; below 1 ranks
better: Liang et al. 2018), and with `free_bits` nats a unit that cost nothing (Kingma et al. 2016; here of each posterior rather than of
a batch's mean, so that ranks only add up).

Legend: B rows, T events, H units, Z latent numbers, N targets.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from foretaste.contract import FIRST_INDEX, Batch
from foretaste.errors import ModelError
from foretaste.models import chance
from foretaste.models.model import Health, Model
from foretaste.models.negatives import log_uniform
from foretaste.models.rows import last, left_aligned

SETTLED = 500  # steps at full weight after which a posterior that tells nothing apart is not just young
ACTIVE = 0.01  # the variance over rows of a unit's mean above which the unit is in use (Burda et al. 2016, section 5.2)


class Variational(Model):
    """A subclass gives `summary`, (B, T, H) of left-aligned rows, and says what a step learns.

    latent: Z; kl_weight: the last β; anneal_steps: when it is reached; free_bits: in nats
    """

    steps: Tensor
    log_share: Tensor

    def __init__(
        self,
        *,
        head: str,
        width: int,
        latent: int,
        kl_weight: float,
        free_bits: float,
        anneal_steps: int,
        **others: Any,
    ) -> None:
        if head != "items":
            raise ModelError("a variational model says which items come, and nothing else", where="model.name", fix="Choose another model.")
        super().__init__(head=head, width=width, **others)
        self.latent, self.kl_weight, self.free_bits, self.anneal_steps = latent, kl_weight, free_bits, anneal_steps
        self.to_posterior = nn.Linear(width, 2 * latent)
        self.decoder = nn.Sequential(nn.Linear(latent, width), nn.Tanh())
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))  # stored, so that a run that goes on goes on from its β
        self.num_observed = 3 + 3 * latent
        self.register_buffer("log_share", torch.log_softmax(log_uniform(len(self._items_head().bias)).log(), 0), persistent=False)

    def follow(self, tables: Mapping[str, Tensor]) -> None:
        super().follow(tables)
        self.log_share.copy_(torch.log_softmax(tables["popularity"].log(), 0))

    def summary(self, batch: Batch[Tensor]) -> Tensor:
        """(B, T, H): what is known after each event."""
        raise NotImplementedError

    def posterior(self, batch: Batch[Tensor]) -> tuple[Tensor, Tensor]:
        """(B, T, Z) each: mean and log-variance after each event of left-aligned rows."""
        mean, log_variance = self.to_posterior(self.summary(batch)).chunk(2, dim=-1)
        return mean, log_variance

    def told(self, batch: Batch[Tensor]) -> Tensor:
        """(B, K) of left-aligned rows: the items that a row's last posterior is to tell, PAD and UNKNOWN where there are fewer."""
        raise NotImplementedError

    def encode(self, batch: Batch[Tensor]) -> Tensor:
        """What the posterior's mean is decoded into."""
        return self.decoder(self.posterior(batch)[0])  # type: ignore[no-any-return]

    def epsilon(self, batch: Batch[Tensor]) -> Tensor:
        """(B, T, Z) of N(0, 1) for left-aligned rows, the same for a row however many ranks share the step; 0 where nothing is learnt."""
        rows, length = batch.item.shape
        if not self.training:
            return torch.zeros(rows, length, self.latent, device=batch.length.device)
        seed = chance.seeds(rows, self.noise, self.place).to(batch.length.device)
        return chance.normal(seed, 0, length * self.latent).view(rows, length, self.latent)

    def latents(self, batch: Batch[Tensor]) -> Tensor:
        """(B, Z): the posterior's mean after each row's last event."""
        return self._at_end(batch, lambda part: self.posterior(part)[0])

    def beta(self) -> float:
        """What the divergence weighs in this step."""
        return self.kl_weight * min(1.0, float(self.steps) / max(1, self.anneal_steps))

    def cost(self, mean: Tensor, log_variance: Tensor) -> Tensor:
        """(), of (N, Z) posteriors: their divergences summed, units at no less than their free bits, times β."""
        return self.beta() * divergence(mean, log_variance).clamp(min=self.free_bits).sum()

    def observe(self, batch: Batch[Tensor]) -> Tensor:
        """Rows, what decoding gained and over how many items; of each unit the sums of its means, their squares, and its divergences."""
        mean, log_variance = self._at_end(batch, lambda part: torch.cat(self.posterior(part), dim=-1)).chunk(2, dim=1)
        weights, bias = self.item_weights()
        states = self._items_head().represent(self.decoder(mean))
        gain = log_likelihood(states, weights[FIRST_INDEX:], bias[FIRST_INDEX:]) - self.log_share  # (B, I - 2)
        item = self.told(left_aligned(batch)).long()
        known = item >= FIRST_INDEX
        gained = gain.gather(1, (item - FIRST_INDEX).clamp(min=0))[known].double()
        of_units = (mean.double(), mean.double().square(), divergence(mean.double(), log_variance.double()))
        counts = torch.tensor([float(len(mean)), gained.sum().item(), float(len(gained))], dtype=torch.float64)
        return torch.cat([counts, *(values.sum(0).cpu() for values in of_units)])

    def health(self, observed: Tensor) -> Health:
        """active_units: how many tell rows apart; kl: nats a row; kl_unit_most, kl_unit_least: of one unit; reconstruction: nats an item by
        which what is decoded from the posterior's mean is ahead of popularity
        """
        rows, (mean, square, kl) = observed[0], observed[3:].view(3, self.latent)
        variance = square / rows - (mean / rows).square()
        active = int((variance > ACTIVE).sum())
        metrics = {
            "active_units": float(active),
            "kl": float(kl.sum() / rows),
            "kl_unit_most": float(kl.max() / rows),
            "kl_unit_least": float(kl.min() / rows),
            "reconstruction": float(observed[1] / observed[2].clamp(min=1.0)),
        }
        if active or int(self.steps) < self.anneal_steps + SETTLED:
            return Health(metrics=metrics)
        return Health(metrics=metrics, ailment=f"the posterior has collapsed: none of {self.latent} latent numbers tells rows apart")

    def _at_end(self, batch: Batch[Tensor], function: Callable[[Batch[Tensor]], Tensor]) -> Tensor:
        """(B, …): function's (b, T, …) of left-aligned parts, after each row's last event."""
        parts = self._parts(batch)
        found = torch.cat([last(function(part), part.length) for _, part in parts])
        return found[torch.argsort(torch.cat([rows for rows, _ in parts]))]


def drawn(mean: Tensor, log_variance: Tensor, epsilon: Tensor) -> Tensor:
    """z, by the reparameterisation mean + deviation · ε."""
    return mean + (0.5 * log_variance).exp() * epsilon


def divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """(N, Z): KL(N(mean, exp(log_variance)) || N(0, 1)) of each unit, in nats (Kingma & Welling 2013, appendix B)."""
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance)


def log_likelihood(states: Tensor, weights: Tensor, bias: Tensor) -> Tensor:
    """(N, I): the logarithm of each item's probability."""
    return F.log_softmax(torch.addmm(bias, states, weights.T), dim=1)
