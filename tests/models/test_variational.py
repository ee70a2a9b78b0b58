"""Variational models: the bound against torch.distributions, its annealing, what they say of themselves, and rows drawn from them."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch.distributions import Independent, Normal, kl_divergence

from foretaste.errors import DivergedError, ModelError
from foretaste.models import MODELS, Conditions, build, variational
from foretaste.models.mult_vae import is_new
from foretaste.models.rows import left_aligned
from foretaste.models.vae import VAE
from foretaste.models.variational import SETTLED, Variational, divergence, drawn
from foretaste.training.loop import fit
from foretaste.training.ranks import Alone
from tests.models.rows import HISTORIES, LONG, SIZES, batch_of, model_of
from tests.training import toys

NAMES = [name for name, kind in MODELS.items() if issubclass(kind, Variational)]
VAE_OPTIONS: dict[str, Any] = {"hidden": (5, 4), "latent": 3, "anneal_steps": 10, "kl_weight": 0.5}
OPTIONS: dict[str, dict[str, Any]] = {"vae": VAE_OPTIONS, "mult_vae": {"hidden": (6,), "latent": 3, "anneal_steps": 10, "kl_weight": 0.5}}


def of(name: str, **options: Any) -> Any:
    return model_of(name, **{**OPTIONS[name], **options})


def test_both_are_here() -> None:
    assert NAMES == ["vae", "mult_vae"]


def test_the_divergence_is_that_of_torch_distributions() -> None:
    mean, log_variance = torch.randn(7, 3), torch.randn(7, 3)
    expected = kl_divergence(Normal(mean, (0.5 * log_variance).exp()), Normal(torch.zeros(3), torch.ones(3)))
    torch.testing.assert_close(divergence(mean, log_variance), expected)
    assert divergence(torch.tensor([0.0, 1.0]), torch.tensor([0.0, 0.0])).tolist() == [0.0, 0.5]  # by hand: ½ · 1²


def test_z_is_drawn_from_its_posterior() -> None:
    model, size = of("vae").train(), 8_000
    epsilon = model.epsilon(batch_of([[2]] * size, 5)).flatten()[:, None]
    z = drawn(torch.full((len(epsilon), 1), 2.0), torch.full((len(epsilon), 1), math.log(0.25)), epsilon)
    assert z.mean().item() == pytest.approx(2.0, abs=0.02)
    assert z.std().item() == pytest.approx(0.5, abs=0.02)
    mean = torch.full((2, 1), 2.0, requires_grad=True)
    drawn(mean, torch.zeros(2, 1), epsilon[:2]).sum().backward()  # the draw carries the gradient
    assert mean.grad is not None
    assert mean.grad.tolist() == [[1.0], [1.0]]


def test_the_loss_of_the_sequence_is_the_bound_of_each_next_item() -> None:
    """At the posterior's mean, where nothing is drawn: - log p(next | mean), and half of the divergence, since kl_weight is 0.5."""
    model, batch = of("vae"), batch_of([[2, 3, 4]], 3)
    model.steps.fill_(100)  # annealed
    (loss,) = model.step(batch)
    mean, log_variance = model.posterior(left_aligned(batch))
    expected = model.unknown.loss(model.decoder(mean[0]), torch.tensor([3, 4, 2])).item()  # that all of them are known
    for event, target in enumerate((3, 4, 2)):  # what follows each event; the label is 2
        logits = model.head.score(model.decoder(mean[:, event]), batch)[0, 2:]
        posterior = Independent(Normal(mean[0, event], (0.5 * log_variance[0, event]).exp()), 1)
        prior = Independent(Normal(torch.zeros(3), torch.ones(3)), 1)
        expected += -torch.log_softmax(logits, 0)[target - 2].item() + 0.5 * kl_divergence(posterior, prior).item()
    assert loss.total.item() == pytest.approx(expected, rel=1e-5)
    assert loss.count.item() == 3


def test_what_goes_with_the_next_item_is_part_of_its_bound() -> None:
    """The gap of each next event but the label's, of which none is known, given the item that it belongs to."""
    batch = batch_of([[2, 3, 4]], 3)
    gap = torch.tensor([[1, 5, 9]], dtype=torch.int32)
    batch = replace(batch, features={**batch.features, "gap": gap})
    both = of("vae", features=("item", "gap"))
    both.steps.fill_(100)
    (loss,) = both.step(batch)
    mean, log_variance = both.posterior(left_aligned(batch))
    states = both.decoder(mean[0])
    items = torch.tensor([3, 4, 2])
    weights, bias = both.item_weights()
    expected = both.cost(mean[0], log_variance[0]).item() + both.unknown.loss(states, items).item()
    expected -= torch.log_softmax(both.head.represent(states) @ weights.T + bias, 1)[range(3), items].sum().item()
    for event, code in enumerate((5, 9)):
        logits = both.details.logits("gap", states[event : event + 1], both.embeddings["item"](items[event : event + 1]))
        expected -= torch.log_softmax(logits, 1)[0, code - 1].item()
    assert loss.total.item() == pytest.approx(expected, rel=1e-5)
    assert loss.count.item() == 3


def test_that_an_item_is_unknown_is_learnt_and_written() -> None:
    model, batch = of("vae"), batch_of([[2, 1, 4]], 3)
    model.steps.fill_(100)
    (loss,) = model.step(batch)
    assert loss.count.item() == 3  # an unknown one, 4 and the label
    mean, log_variance = model.posterior(left_aligned(batch))
    states = model.decoder(mean[0])
    unknown = torch.sigmoid(model.unknown.logit(states))
    expected = model.cost(mean[0], log_variance[0]) - unknown[0].log() - (1 - unknown[1:]).log().sum()
    weights, bias = model.item_weights()
    expected = expected - torch.log_softmax(model.head.represent(states[1:]) @ weights.T + bias, 1)[[0, 1], [4, 2]].sum()
    assert loss.total.item() == pytest.approx(expected.item(), rel=1e-5)
    torch.nn.init.constant_(model.unknown.bias, 50.0)
    assert model.draw(Conditions.none(3), torch.tensor([1, 2, 3])).item.max().item() == 1


def test_rows_have_what_it_reads() -> None:
    made = of("vae", features=("item", "gap")).draw(Conditions.none(3), torch.tensor([1, 2, 3]))
    assert set(made.features) == {"item", "gap"}
    assert torch.equal(made.features["gap"] > 0, made.item > 0)
    assert (made.features["gap"][made.item > 0] >= 1).all()


def test_the_loss_of_the_bag_is_the_multinomial_bound() -> None:
    model, batch = of("mult_vae"), batch_of([[2, 3, 2, 4]], 5)
    model.steps.fill_(100)
    (loss,) = model.step(batch)
    mean, log_variance = (part[:, 3] for part in model.posterior(left_aligned(batch)))
    logits = model.head.score(model.decoder(mean), batch)[:, 2:]
    multinomial = torch.distributions.Multinomial(3, logits=logits)
    bag = torch.tensor([[1.0, 1.0, 1.0, *[0.0] * (SIZES.num_items - 5)]])  # 2, 3 and 4, once each
    coefficient = math.lgamma(4)  # log 3!, which the paper leaves out: no parameter moves it
    expected = -(multinomial.log_prob(bag).item() - coefficient) + 0.5 * divergence(mean, log_variance).sum().item()
    assert loss.total.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_the_divergence_weighs_more_with_each_step_and_goes_on_from_what_was_stored(name: str) -> None:
    model, batch = of(name), batch_of(HISTORIES, 5)
    betas = []
    for _ in range(12):
        next(model.step(batch))
        betas.append(model.beta())
    assert betas == pytest.approx([0.5 * min(1.0, step / 10) for step in range(1, 13)])
    other = of(name)
    other.load_state_dict(model.state_dict())
    assert other.beta() == model.beta()


def test_free_bits_cost_nothing() -> None:
    model = of("vae", free_bits=0.3)
    model.steps.fill_(100)
    mean = torch.tensor([[0.0, 1.0, 2.0]])  # 0, 0.5 and 2 nats
    assert model.cost(mean, torch.zeros(1, 3)).item() == pytest.approx(0.5 * (0.3 + 0.5 + 2.0))


@pytest.mark.parametrize("name", NAMES)
def test_rows_may_be_shared_out_over_ranks(name: str) -> None:
    model, rows = of(name), [*HISTORIES, LONG]
    model.steps.fill_(100)
    (whole,) = model.step(batch_of(rows, 12))
    halves = [next(model.step(batch_of(part, 12))) for part in (rows[:1], rows[1:])]
    assert sum(half.total.item() for half in halves) == pytest.approx(whole.total.item(), rel=1e-5)
    assert sum(half.count.item() for half in halves) == whole.count.item()


@pytest.mark.parametrize("name", NAMES)
def test_later_events_move_no_earlier_posterior_and_padding_none(name: str) -> None:
    model = of(name)
    mean, _ = model.posterior(left_aligned(batch_of([[2, 3, 4, 5]], 4)))
    for events in (1, 2, 3):
        torch.testing.assert_close(model.latents(batch_of([[2, 3, 4, 5][:events]], 9))[0], mean[0, events - 1])


@pytest.mark.parametrize("name", NAMES)
def test_scores_are_those_of_the_blockwise_catalogue(name: str) -> None:
    model, batch = of(name), batch_of([*HISTORIES, LONG], 12)
    weights, bias = model.item_weights()
    torch.testing.assert_close(model.score(batch), model.represent(batch) @ weights.T + bias)


def test_the_order_of_a_bag_does_not_matter_and_nor_do_repeats() -> None:
    one, two, other = of("mult_vae").score(batch_of([[2, 3, 4], [4, 2, 4, 3], [2, 3, 5]], 5))[:, 2:]
    torch.testing.assert_close(one, two)
    assert not torch.allclose(one, other, atol=1e-4)


def test_what_is_new_in_a_row() -> None:
    item = torch.tensor([[4, 2, 4, 1, 2, 3, 0], [5, 5, 5, 0, 0, 0, 0]])
    assert is_new(item).int().tolist() == [[1, 1, 0, 0, 0, 1, 0], [1, 0, 0, 0, 0, 0, 0]]


class Known(VAE):
    """Its posteriors are given."""

    given: tuple[torch.Tensor, torch.Tensor]

    def posterior(self, batch: Any) -> tuple[torch.Tensor, torch.Tensor]:
        rows, events = batch.item.shape
        place = batch.item[:, :1].long() - 2  # rows find theirs by their first item, however they are parted
        mean, log_variance = (of.gather(0, place.expand(-1, 3))[:, None].expand(rows, events, 3) for of in self.given)
        return mean, log_variance


def known(mean: list[list[float]]) -> Known:
    model = of("vae")
    model.__class__ = Known
    model.given = (torch.tensor(mean), torch.zeros(len(mean), 3))
    assert isinstance(model, Known)
    return model


def test_active_units_are_those_whose_mean_tells_rows_apart() -> None:
    model = known([[0.0, 1.0, 2.0], [0.0, 1.0, -2.0], [0.05, 1.0, 0.0]])  # hardly, not at all, much
    halves = [model.observe(batch_of(part, 4)) for part in ([[2, 5]], [[3], [4, 2, 2]])]
    health = model.health(sum(halves[1:], start=halves[0]))
    assert health.metrics["active_units"] == 1
    assert health.metrics["kl"] == pytest.approx((0.5 * 0.05**2 + 1.5 + 4.0) / 3)
    assert health.metrics["kl_unit_most"] == pytest.approx(4 / 3)
    assert health.ailment is None


@pytest.mark.parametrize(("name", "asked"), [("vae", [2]), ("mult_vae", [2, 5])])
def test_reconstruction_is_how_far_decoding_is_ahead_of_popularity(name: str, asked: list[int]) -> None:
    """Of the next item, which is 2, or of the row's own bag; in nats an item, over rows whatever their number."""
    model, batch = of(name), batch_of([[2, 5, 2, 1]], 4)
    popularity = torch.arange(1.0, SIZES.num_items - 1)
    model.follow({"popularity": popularity})
    weights, bias = model.item_weights()
    logits = (model.represent(batch) @ weights.T + bias)[0, 2:]
    places = [item - 2 for item in asked]
    expected = (torch.log_softmax(logits, 0) - (popularity / popularity.sum()).log())[places].mean().item()
    observed = model.observe(batch).detach()
    assert model.health(observed).metrics["reconstruction"] == pytest.approx(expected, rel=1e-4)
    assert model.health(2 * observed).metrics["reconstruction"] == pytest.approx(expected, rel=1e-4)


def test_a_collapsed_posterior_is_told() -> None:
    model = known([[0.0, 0.0, 0.0], [0.01, 0.0, 0.0], [0.0, 0.0, 0.0]])
    observed = model.observe(batch_of([[2], [3], [4]], 4))
    assert model.health(observed).ailment is None  # it has learnt nothing yet
    model.steps.fill_(10 + SETTLED)
    assert model.health(observed).ailment == "the posterior has collapsed: none of 3 latent numbers tells rows apart"


def test_only_items_are_drawn_and_a_circle_that_was_learnt_is_gone_round(tmp_path: Path) -> None:
    options = {"name": "vae", "latent": 4, "kl_weight": 0.01, "anneal_steps": 10}
    result = fit(toys.plan(tmp_path, model=options, fit={"epochs": 30, "patience": 30}), Alone(), toys.quiet, feed=toys.feed)
    assert result.metrics["mrr"] == 1.0
    assert result.metrics["active_units"] > 0
    model = trained(tmp_path, result.weights, options)
    asked, seed = replace(Conditions.none(200), budget=torch.full((200,), 6)), torch.arange(200)
    item = model.draw(asked, seed).item.long()[:, -6:]
    assert (item == 1).float().mean() < 0.05  # unknown items were never seen
    follows = item[:, 1:] == 2 + (item[:, :-1] - 1) % 6
    assert follows.float().mean().item() > 0.6  # one in six by chance
    assert len(item[:, 0].unique()) > 1  # the prior starts anywhere
    alone = model.draw(replace(Conditions.none(1), budget=torch.tensor([4])), seed[7:8]).item[0]
    assert alone.tolist() == [0] * (len(alone) - 4) + item[7, :4].tolist()  # a row's own, whatever the batch


def test_a_bag_is_learnt_by_heart(tmp_path: Path) -> None:
    options = {"name": "mult_vae", "embedding": None, "latent": 4, "kl_weight": 0.01, "anneal_steps": 10}
    result = fit(toys.plan(tmp_path, model=options, fit={"epochs": 10, "patience": 10}), Alone(), toys.quiet, feed=toys.feed)
    assert toys.losses(result.history)[-1] < toys.losses(result.history)[0]


def test_too_much_weight_on_the_divergence_ends_in_plain_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(variational, "SETTLED", 50)
    plan = toys.plan(tmp_path, model={"name": "vae", "kl_weight": 1000.0, "anneal_steps": 0}, fit={"epochs": 30, "patience": 30})
    with pytest.raises(DivergedError, match="the posterior has collapsed"):
        fit(plan, Alone(), toys.quiet, feed=toys.feed)


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ModelError, match="says which items come, and nothing else"):
        model_of("vae", "binary")
    with pytest.raises(ModelError, match="a VAE that reads more than it writes cannot write rows"):
        of("vae", features=("item", "category")).draw(Conditions.none(1), torch.tensor([1]))
    with pytest.raises(ModelError, match="MultVAE writes no sequences"):
        of("mult_vae").draw(Conditions.none(1), torch.tensor([1]))
    with pytest.raises(ModelError, match="vae has no setting layers"):
        model_of("vae", layers=2)


def trained(folder: Path, weights: str, options: dict[str, Any]) -> Any:
    plan = toys.plan(folder, model=options)
    model = build(plan.model.name, head=plan.head, label=plan.label, sizes=plan.sizes, **plan.options)
    model.load_state_dict(load_file(weights))
    return model.eval()
