"""The GAN: both losses and the penalty by hand, rows that obey what was asked, players that stop when they fail."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from foretaste.contract import PAD, Batch
from foretaste.errors import DivergedError, ModelError
from foretaste.models import GAN, Conditions, Objective, build, gan
from foretaste.models.conditions import conditions_of
from foretaste.models.discriminator import Discriminator, discriminator_loss, generator_loss, gradient_penalty
from foretaste.models.gan import straight_through
from foretaste.models.heads import INIT_STD
from foretaste.models.resemblance import FEWEST_ROWS, PAIR_BUCKETS, ROW_BUCKETS, Resemblance
from foretaste.models.rows import left_aligned
from foretaste.training.loop import fit
from foretaste.training.ranks import Alone
from tests.models.rows import HISTORIES, SIZES, batch_of, model_of
from tests.training import toys

ALL = ("item", "opens_session", "gap", "event")
OPTIONS: dict[str, Any] = {"hidden": (5,), "latent": 3, "anneal_steps": 0, "features": ALL}
SOFTPLUS_1 = math.log1p(math.e)


def of(**options: Any) -> GAN:
    model = model_of("gan", **{**OPTIONS, **options})
    assert isinstance(model, GAN)
    return model


def asked(rows: int, **given: int) -> Conditions:
    return replace(Conditions.none(rows), **{name: torch.full((rows,), value) for name, value in given.items()})


# What the players play for.


def test_losses_by_hand() -> None:
    real, fake = torch.tensor([0.0, 1.0]), torch.tensor([0.0, -1.0])
    log_2 = math.log(2)
    down = SOFTPLUS_1 - 1  # softplus(-1)
    assert discriminator_loss("minimax", real, fake).item() == pytest.approx(log_2 + down + log_2 + down)
    assert generator_loss("minimax", fake).item() == pytest.approx(log_2 + SOFTPLUS_1)
    assert discriminator_loss("wasserstein", real, fake).item() == pytest.approx(-2.0)
    assert generator_loss("wasserstein", fake).item() == pytest.approx(1.0)


class Linear(nn.Module):
    """A judge whose slope is 3 at one number of each row and 4 at another: 5 in all."""

    def forward(self, events: Tensor, length: Tensor, conditions: Conditions) -> Tensor:
        return 3 * events[:, 0, 0] + 4 * events[:, 1, 1]


def test_the_penalty_of_a_slope_of_five_is_sixteen_a_row() -> None:
    real, fake = torch.randn(2, 3, 2), torch.randn(2, 3, 2)
    penalty = gradient_penalty(Linear(), real, fake, torch.tensor([0.2, 0.7]), torch.tensor([3, 3]), Conditions.none(2))
    assert penalty.item() == pytest.approx(2 * (5 - 1) ** 2)


def test_the_penalty_against_finite_differences() -> None:
    """Of the true discriminator, in float64: its slope, and how the penalty moves with a weight."""
    torch.manual_seed(0)
    critic = Discriminator(features=("item",), sizes=SIZES, embedding=4).double()
    real, fake = torch.randn(1, 3, 4, dtype=torch.float64), torch.randn(1, 3, 4, dtype=torch.float64)
    length, nothing, between = torch.tensor([2]), Conditions.none(1), torch.tensor([0.3], dtype=torch.float64)

    def slope() -> float:
        point, size = 0.3 * real + 0.7 * fake, 1e-6
        total = 0.0
        for place in range(point.numel()):
            moved = torch.zeros(point.numel(), dtype=torch.float64)
            moved[place] = size
            up, down = (critic(point + sign * moved.view_as(point), length, nothing).item() for sign in (1, -1))
            total += ((up - down) / (2 * size)) ** 2
        return math.sqrt(total)

    def penalty() -> Tensor:
        return gradient_penalty(critic, real, fake, between, length, nothing)

    assert penalty().item() == pytest.approx((slope() - 1) ** 2, rel=1e-6)
    penalty().backward()  # type: ignore[no-untyped-call]
    weight = critic.hidden.weight
    assert weight.grad is not None
    found = weight.grad[0, 0].item()
    moved = []
    for by in (1e-6, -2e-6):
        with torch.no_grad():
            weight[0, 0] += by
        moved.append(penalty().item())
    assert found == pytest.approx((moved[0] - moved[1]) / 2e-6, rel=1e-4, abs=1e-8)


def test_what_lies_past_the_end_is_not_judged() -> None:
    torch.manual_seed(0)
    critic = Discriminator(features=("item",), sizes=SIZES, embedding=4)
    events, nothing = torch.randn(1, 6, 4), Conditions.none(1)
    expected = critic(events[:, :3], torch.tensor([3]), nothing)
    torch.testing.assert_close(critic(events, torch.tensor([3]), nothing), expected)


# The generator.


def test_a_choice_is_one_code_forward_and_a_softmax_backward() -> None:
    logits, noise = torch.tensor([[1.0, 2.0, 0.0]], requires_grad=True), torch.tensor([[2.0, 0.0, 0.0]])
    choice = straight_through(logits, noise, temperature=0.5)
    assert choice.tolist() == [[1.0, 0.0, 0.0]]
    worth = torch.tensor([1.0, 5.0, 2.0])
    (slope,) = torch.autograd.grad((choice * worth).sum(), logits)
    soft = torch.softmax((logits + noise) / 0.5, 1)
    (expected,) = torch.autograd.grad((soft * worth).sum(), logits)
    torch.testing.assert_close(slope, expected)


def test_the_likelihood_of_a_row_is_that_of_its_choices_one_by_one() -> None:
    model, batch = of(), left_aligned(batch_of([[2, 8, 1, 3]], 4, ALL))
    context = model.context(torch.randn(1, 3), asked(1, budget=4))
    expected, hidden = 0.0, model._starts(context)
    state = hidden[-1]
    for event, item in enumerate((2, 8, 1, 3)):
        unknown = torch.sigmoid(model.unknown.logit(state)).item()
        expected -= math.log(unknown if item == 1 else 1 - unknown)
        expected -= F.log_softmax(model.head.score(state, batch), 1)[0, item].item() if item > 1 else 0.0
        chosen = model.embeddings["item"](torch.tensor([item]))
        for name in ALL[1:]:
            code = int(batch.features[name][0, event])
            expected -= F.log_softmax(model.details.logits(name, state, chosen), 1)[0, code - 1].item()
            chosen = chosen + model.embeddings[name](torch.tensor([code]))
        state, hidden = model._advance(chosen + context, hidden)
    assert model.likelihood(batch, context).item() == pytest.approx(expected, rel=1e-5)


def test_a_roll_out_is_choices_and_its_gradient_reaches_the_generator() -> None:
    model = of()
    written = model.roll_out(model.context(torch.randn(2, 3), Conditions.none(2)), 5)
    assert set(written) == set(ALL)
    for name, (share, codes) in written.items():
        assert share.shape == (2, 5, len(codes))
        assert share.sum(2).tolist() == [[1.0] * 5] * 2
        assert codes.tolist() == list(range(1, SIZES.of(name)))
    word = model.discriminator(model.discriminator.read_choices(written), torch.tensor([5, 5]), Conditions.none(2))
    word.sum().backward()
    assert model.starts[0].weight.grad.abs().sum() > 0  # type: ignore[union-attr, operator]


def test_a_critic_cannot_be_surer_by_longer_vectors() -> None:
    critic = of().discriminator
    features = {name: torch.tensor([[2, 1, 0]]) for name in critic.tables}
    before = critic.read(features)
    with torch.no_grad():
        for table in critic.tables.values():
            table.weight.mul_(10.0)
    torch.testing.assert_close(critic.read(features), before)
    assert before[0, 2].tolist() == [0.0] * before.shape[2]  # padding


def test_the_generators_step_moves_no_weight_of_the_discriminator() -> None:
    model = of().train()
    losses = model.step(batch_of(HISTORIES, 5, ALL))
    assert next(losses).optimizer == "discriminator"
    loss = next(losses)
    assert loss.optimizer == "generator"
    model.zero_grad()
    loss.total.backward()  # type: ignore[no-untyped-call]
    assert all(parameter.grad is None for parameter in model.discriminator.parameters())
    assert all(parameter.requires_grad for parameter in model.discriminator.parameters())  # and learns again next time
    assert model.from_z.weight.grad is not None


def test_noise_and_wishes_do_not_drown_what_happened() -> None:
    """At the start all three are vectors of like length; noise of N(0, 1) a number would be ten times as long as an item's."""
    model = of(embedding=64, latent=32)
    zeros, z = torch.zeros(500, 32), torch.randn(500, 32, generator=torch.Generator().manual_seed(1))
    nothing, all_of_them = asked(500), asked(500, budget=2, category=3, campaign=1)
    item = INIT_STD * math.sqrt(64)  # the length of a vector that each feature starts with
    for z_given, wished in ((z, nothing), (zeros, all_of_them)):
        assert 0.5 * item < model.context(z_given, wished).norm(dim=1).mean().item() < 2.5 * item


def test_at_first_there_is_likelihood_alone() -> None:
    model = of(anneal_steps=1).train()
    batch = batch_of(HISTORIES, 5, ALL)
    assert [[loss.optimizer for loss in model.step(batch)] for _ in range(2)] == [["generator"], ["discriminator", "generator"]]


@pytest.mark.parametrize("adversary", ["minimax", "wasserstein"])
@pytest.mark.parametrize("draws", [0, 3])
def test_halves_of_a_batch_add_up_to_the_whole(adversary: str, draws: int) -> None:
    objective = Objective(name="sampled_softmax", draws=draws) if draws else Objective()
    model, rows = of(adversary=adversary, objective=objective), [*HISTORIES, [4, 5, 6]]

    def totals(histories: list[list[int]], first: int) -> list[float]:
        model.noise.manual_seed(3)
        model.place = (len(rows), first)
        return [loss.total.item() for loss in model.step(batch_of(histories, 5, ALL))]

    whole, halves = totals(rows, 0), (totals(rows[:1], 0), totals(rows[1:], 1))
    assert [sum(parts) for parts in zip(*halves, strict=True)] == pytest.approx(whole, rel=1e-4)


def test_drawn_rows_are_rows_of_the_contract() -> None:
    model, budgets = of(), [1, 12, 7, 99]
    batch = model.draw(replace(Conditions.none(4), budget=torch.tensor(budgets)), torch.arange(4))
    assert batch.length.tolist() == [1, 12, 7, 12]  # no longer than the rows that it learnt from
    inside = torch.arange(12) >= 12 - batch.length[:, None]
    for name in ALL:
        codes = batch.features[name]
        assert codes.shape == (4, 12)
        assert (codes[~inside] == PAD).all()
        assert codes[inside].min() >= 1
        assert codes[inside].max() < SIZES.of(name)
    alone = model.draw(asked(1, budget=7), torch.tensor([2]))
    assert all(torch.equal(alone.features[name][0], batch.features[name][2]) for name in ALL)


@pytest.mark.parametrize(("logit", "share"), [(-50.0, 0.0), (0.0, 0.5), (50.0, 1.0)])
def test_items_that_the_vocabulary_lacks_are_written_as_often_as_it_says(logit: float, share: float) -> None:
    model = of()
    torch.nn.init.zeros_(model.unknown.weight)
    torch.nn.init.constant_(model.unknown.bias, logit)
    batch = model.draw(replace(Conditions.none(200), budget=torch.full((200,), 10)), torch.arange(200))
    assert (batch.item[:, -10:] == 1).float().mean().item() == pytest.approx(share, abs=0.05)
    item, codes = model.roll_out(model.context(torch.randn(200, 3), Conditions.none(200)), 10)["item"]
    assert codes[0] == 1
    assert item[:, :, 0].mean().item() == pytest.approx(share, abs=0.05)


def test_what_real_rows_would_have_been_asked_for() -> None:
    """Of items 2, 3, 4: categories 2, 3, 3; popularity 9, 5, 1. The second row has an event of a campaign (7: exposure)."""
    item = torch.tensor([[0, 2, 2, 3], [2, 3, 4, 1], [0, 0, 0, 1]], dtype=torch.int32)
    event = torch.tensor([[0, 1, 1, 1], [1, 7, 1, 1], [0, 0, 0, 1]], dtype=torch.int32)
    length = torch.tensor([3, 4, 1])
    batch = Batch(features={"item": item, "event": event}, length=length, fresh=length, recency=length)
    found = conditions_of(batch, torch.tensor([0, 0, 2, 3, 3]), torch.tensor([9.0, 9.0, 9.0, 5.0, 1.0]))
    assert found.budget.tolist() == [3, 4, 1]
    assert found.category.tolist() == [2, 3, 0]
    assert found.campaign.tolist() == [1, 2, 1]
    assert found.item.tolist() == [3, 4, 0]
    kept = found.kept(torch.tensor([[True, False, True, False]] * 3))
    assert (kept.budget.tolist(), kept.category.tolist(), kept.item.tolist()) == ([3, 4, 1], [0] * 3, [0] * 3)


@pytest.mark.parametrize("adversary", ["minimax", "wasserstein"])
def test_a_circle_that_was_learnt_is_gone_round_and_what_is_asked_for_is_there(tmp_path: Path, adversary: str) -> None:
    options = {"name": "gan", "latent": 4, "anneal_steps": 60, "adversary": adversary, "adversarial_weight": 0.1}
    options["features"] = ["item", "event"]
    plan = toys.plan(tmp_path, model=options, fit={"epochs": 70, "patience": 70})
    result = fit(plan, Alone(), toys.quiet, feed=toys.feed)
    assert {"loss of discriminator", "loss of generator"} <= set(result.history[-1])
    model = build("gan", head="items", label=plan.label, sizes=plan.sizes, **plan.options)
    model.load_state_dict(load_file(result.weights))
    batch = model.eval().draw(asked(200, budget=2), torch.arange(200))
    item, event = batch.item[:, -2:].long(), batch.features["event"][:, -2:]
    assert (item[:, 1] == 2 + (item[:, 0] - 1) % 6).float().mean().item() > 0.9
    assert (event == 1 + item % 2).float().mean().item() > 0.9  # what goes with an item goes with it
    assert len(item[:, 0].unique()) > 3
    wishes = (asked(200, budget=2), asked(200, budget=2, item=7))
    sevens = [(model.draw(wish, torch.arange(200)).item == 7).any(1).float().mean().item() for wish in wishes]
    assert sevens[1] > sevens[0] + 0.2, "a row that is asked to hold an item does so more often"


# How both fare.


def sums(rows: float, right: float, real: list[int], fake: list[int], real_rows: list[int], fake_rows: list[int]) -> Tensor:
    """Counts as given, in the first buckets."""
    counts = [(real, PAIR_BUCKETS), (fake, PAIR_BUCKETS), (real_rows, ROW_BUCKETS), (fake_rows, ROW_BUCKETS)]
    buckets = [F.pad(torch.tensor(given).double(), (0, size - len(given))) for given, size in counts]
    return torch.cat([torch.tensor([rows, right], dtype=torch.float64), *buckets])


def test_resemblance_by_hand() -> None:
    """Real pairs 6, 2, 2; written ones 6, 0, 0, 4: four tenths lie elsewhere. Two different pairs where real rows have three."""
    observed = sums(200, 150, [6, 2, 2], [6, 0, 0, 4], [1] * 4, [2, 2])
    health = Resemblance().health(observed, settled=True, against="minimax")
    assert health.metrics["pair_distance"] == pytest.approx(0.4)
    assert health.metrics["distinct_pairs"] == pytest.approx(2 / 3, rel=1e-3)
    assert health.metrics["distinct_rows"] == pytest.approx(0.5, rel=1e-3)
    assert health.metrics["discriminator_accuracy"] == 0.75
    assert health.ailment is None


@pytest.mark.parametrize(
    ("right", "fake_rows", "words"),
    [
        (100, [FEWEST_ROWS], "the generator has collapsed: it writes 1% of the different rows that real ones are"),
        (200, [1] * 100, "the two players have diverged: the discriminator finds the real row in 100.0% of the pairs"),
    ],
)
def test_ailments_are_told_once_it_has_settled(right: float, fake_rows: list[int], words: str) -> None:
    observed = sums(200, right, [1] * 9, [1] * 9, [1] * 100, fake_rows)
    assert Resemblance().health(observed, settled=False, against="minimax").ailment is None
    ailment = Resemblance().health(observed, settled=True, against="minimax").ailment
    assert ailment is not None
    assert ailment.startswith(words)


def test_a_critic_of_wasserstein_may_be_sure() -> None:
    observed = sums(200, 200, [1] * 9, [1] * 9, [1] * 100, [1] * 100)
    health = Resemblance().health(observed, settled=True, against="wasserstein")
    assert health.ailment is None
    assert health.metrics["discriminator_accuracy"] == 1.0


def test_rows_are_watched_alike_however_they_are_shared() -> None:
    model, rows = of(), [[2, 3], [4], [5, 6, 7], [8, 2], [3], [6, 6], [7, 2, 3], [2, 2, 2]]
    whole = model.observe(batch_of(rows, 4, ALL))
    halves = model.observe(batch_of(rows[:3], 4, ALL)) + model.observe(batch_of(rows[3:], 4, ALL))
    torch.testing.assert_close(halves, whole)
    nats, events, watched = whole[:3].tolist()
    assert 0 < watched < len(rows)
    assert model.health(whole).metrics["nats"] == pytest.approx(nats / events)


def test_a_collapse_ends_in_plain_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything at a learning rate that leaves one row of all."""
    monkeypatch.setattr(gan, "SETTLED", 1)
    monkeypatch.setattr(gan, "WATCHED", 1)
    monkeypatch.setattr("foretaste.models.resemblance.FEWEST_ROWS", 1)
    monkeypatch.setattr(gan.chance, "uniform", lambda seed, stream, count: torch.full((len(seed), count), 0.5, dtype=torch.float64))
    plan = toys.plan(tmp_path, model={"name": "gan", "latent": 2, "anneal_steps": 0}, fit={"epochs": 5, "patience": 5})
    with pytest.raises(DivergedError, match="the generator has collapsed"):
        fit(plan, Alone(), toys.quiet, feed=toys.feed)


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ModelError, match="a GAN writes rows of items"):
        model_of("gan", "binary")
    with pytest.raises(ModelError, match="a GAN writes what it reads"):
        of(features=("item", "hour"))
    with pytest.raises(ModelError, match="GRU writes no sequences"):
        model_of("gru").draw(Conditions.none(1), torch.tensor([1]))
