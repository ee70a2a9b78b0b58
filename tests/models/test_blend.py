"""The blend: probabilities that add up, candidates, and a perceptron that learns whom to believe."""

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from foretaste.contract import Batch
from foretaste.models.blend import Blend
from foretaste.models.counted import Counted
from tests.models.counted import NUM_ITEMS, A, B, C, D, E, model, ranking, rows

AFTER = {"offset": [0, 0, 0, 1, 2, 2, 2, 2], "neighbour": [B, C], "weight": [1.0, 1.0]}  # A → B → C


class Always(nn.Module):
    """A network that gives everybody the same logits, and would give others while it learns."""

    def __init__(self, *best: int) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.full((NUM_ITEMS,), -5.0))
        self.logits.data[:A] = -torch.inf
        self.logits.data[list(best)] = torch.arange(len(best), 0, -1).float()
        self.dropout = nn.Dropout(0.99)

    def represent(self, batch: Batch[Tensor]) -> Tensor:
        return torch.ones(len(batch.length), 1)

    def item_weights(self) -> tuple[Tensor, Tensor]:
        return torch.zeros(NUM_ITEMS, 1), self.logits

    def score(self, batch: Batch[Tensor]) -> Tensor:
        return self.dropout(self.logits.expand(len(batch.length), -1).exp()).log()


def blend(*best: int, experts: Mapping[str, Counted] | None = None, **options: Any) -> Blend:
    torch.manual_seed(0)
    chosen = experts or {"markov": model("markov", AFTER), "own_items": model("own_items")}
    return Blend(label="next", network=Always(*best), experts=chosen, **options).eval()  # type: ignore[arg-type]


def labelled(batch: Batch[Tensor], *targets: list[int]) -> Batch[Tensor]:
    batch.labels["next"] = torch.tensor(targets)
    return batch


def learn(chosen: Blend, batch: Batch[Tensor], steps: int = 200) -> float:
    chosen.train()
    optimizer = chosen.optimizers(learning_rate=0.05, weight_decay=0.0)["main"]
    value = 0.0
    for _ in range(steps):
        loss = next(chosen.step(batch))
        optimizer.zero_grad()
        (loss.total / loss.count).backward()
        optimizer.step()
        value = float((loss.total / loss.count).detach())
    chosen.eval()
    return value


def test_scores_are_the_logarithms_of_probabilities() -> None:
    scores = blend(D, E, candidates=3).score(rows([A], [A, B], [1]))
    assert scores.exp().sum(1).tolist() == pytest.approx([1.0, 1.0, 1.0])
    assert (scores[:, :A] == -torch.inf).all(), "PAD and UNKNOWN are no items"


def test_only_the_candidates_are_ranked_anew() -> None:
    """D and E by the network, B by the counts: of three candidates these; A and C keep their shares."""
    candidate, _, share = blend(D, E, candidates=3, experts={"markov": model("markov", AFTER)})._ranked(rows([A]))
    assert sorted(candidate[0].tolist()) == [B, D, E]
    assert share[0, B] > share[0, C]
    scores = blend(D, E, candidates=3, experts={"markov": model("markov", AFTER)}).score(rows([A])).exp()
    assert torch.allclose(scores[0, [A, C]], share[0, [A, C]])
    assert not torch.allclose(scores[0, [B, D, E]], share[0, [B, D, E]])


def test_it_learns_to_believe_the_counts_where_they_are_right() -> None:
    """The network says E; what happens is what the counts say."""
    batch = labelled(rows([A], [B], [C, A], [D, B]), [B], [C], [B], [C])
    chosen = blend(E, D)
    assert learn(chosen, batch) < 0.1
    assert [best[0] for best in ranking(chosen.score(batch))] == [B, C, B, C]


def test_it_learns_to_believe_the_network_where_the_counts_are_wrong() -> None:
    batch = labelled(rows([A], [B]), [E], [E])
    chosen = blend(E, D)
    assert learn(chosen, batch) < 0.1
    assert [best[0] for best in ranking(chosen.score(batch))] == [E, E]


def test_only_the_perceptron_learns() -> None:
    chosen = blend(E, D)
    before = {name: tensor.clone() for name, tensor in chosen.state_dict().items()}
    learn(chosen, labelled(rows([A]), [B]), steps=2)
    changed = {name for name, tensor in chosen.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed == {"hidden.weight", "hidden.bias", "out.weight"}


def test_the_network_is_listened_to_without_dropout() -> None:
    chosen = blend(E, D)
    batch = labelled(rows([A]), [B])
    chosen.train()
    losses = {float(next(chosen.step(batch)).total) for _ in range(5)}
    assert len(losses) == 1


def test_targets_that_nobody_could_rank_do_not_count() -> None:
    batch = labelled(rows([A], [A], [A]), [1], [0], [B])  # unknown, none, known
    loss = next(blend(D, E).step(batch))
    assert float(loss.count) == 1.0


def test_all_targets_of_a_row_weigh_as_much_as_one() -> None:
    one, both = labelled(rows([A]), [B, 0]), labelled(rows([A]), [B, C])
    chosen = blend(D, E, next_only=False)
    alone = [float(next(chosen.step(labelled(rows([A]), [target, 0]))).total.detach()) for target in (B, C)]
    assert float(next(chosen.step(both)).total.detach()) == pytest.approx(sum(alone) / 2)
    assert float(next(blend(D, E, next_only=True).step(both)).total.detach()) == pytest.approx(
        float(next(blend(D, E, next_only=True).step(one)).total.detach())
    )


def test_items_seen_before_are_no_candidates_where_they_are_left_out() -> None:
    chosen = blend(D, E, leave_out_seen=True, candidates=2)
    assert sorted(chosen._ranked(rows([A, D, B]))[0][0].tolist()) == [C, E]
    assert (chosen.score(rows([A, D, B]))[0, [A, B, D]] == -torch.inf).all()


def test_rows_are_scored_alike_alone_and_together() -> None:
    chosen = blend(D, E)
    together = chosen.score(rows([A], [B]))
    assert torch.allclose(together, torch.cat([chosen.score(rows([A])), chosen.score(rows([B]))]))


def test_some_items_alone_are_ranked_as_they_are_among_all() -> None:
    """Without a score for every item: what the ranker says of these, up to rounding."""
    batch = rows([A], [A, B, A], [1, C], [1])
    chosen = blend(D, E, candidates=4)
    with torch.no_grad():
        candidate, logits, _ = chosen._ranked(batch)
        total = chosen.network.score(batch).logsumexp(1, keepdim=True)
        found = chosen.logits_of(batch, candidate, chosen.network.represent(batch), total)
    assert torch.allclose(found, logits, atol=1e-5)
