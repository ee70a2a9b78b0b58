"""Two stages in place of a whole catalogue of millions: users of like taste share a shortlist of items, and only that is scored exactly.

What a network makes of a history is the user's taste, (D,). Tastes are grouped by k-means (faiss); a group's shortlist is the best of the
whole catalogue for its centre, long enough that the best k of users who were not grouped lie in it. A score's denominator, the sum over all
items, is the shortlist's own sum and an estimate of the rest: items drawn as likely as the centre ranks them, each of which stands for many
(importance sampling).

Lists by users, not by items (an inverted file over item vectors): a user's best items lie far apart in the space of items, but users who
share them lie together. faiss is needed to build, torch alone to score.

Legend: U users, D width of item vectors, C groups, N items of a shortlist, S items drawn of the others, k items wanted.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import Tensor

from foretaste.contract import FIRST_INDEX, PAD
from foretaste.scoring.filters import Filters, LeftOut
from foretaste.scoring.topk import Catalogue

DRAWN = 512  # S
SCORES_AT_ONCE = 1 << 24  # of all items, while shortlists are made: 64 MB
MARGIN = 0.8  # of the misses that are allowed, how many are used up: other users miss a few more


@dataclass(frozen=True, kw_only=True)
class Found:
    """What shortlists are worth, on users who had no part in them.

    recall: the share of their exact best k that is found; off: of 20 users 19 have the sum over all items wrong by no more than this share
    """

    users: int
    items: int
    recall: float
    off: float


class Shortlists:
    """The same as a Catalogue, nearly: see `best`.

    centres: (C, D); items: (C, N) vocabulary indices, rising; others: (C, S) and log_stands_for: (C, S), how many items each is one of
    """

    def __init__(self, catalogue: Catalogue, tensors: dict[str, Tensor]) -> None:
        self.catalogue, self.tensors = catalogue, tensors
        self.centres, self.items = tensors["centres"], tensors["items"]
        self.others, self.log_stands_for = tensors["others"], tensors["log_stands_for"]

    @classmethod
    def load(cls, path: str, catalogue: Catalogue) -> "Shortlists":
        return cls(catalogue, safetensors.torch.load(Path(path).read_bytes()))

    def save(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(safetensors.torch.save(self.tensors))

    def best(self, tastes: Tensor, k: int, left_out: LeftOut | None = None) -> tuple[Tensor, Tensor]:
        """From (U, D), as `Catalogue.best`: k' = min(k, N). Quicker the more users there are at once, since a group's items are
        gathered once."""
        group = _nearest(self.centres, tastes)
        order = torch.argsort(group, stable=True)
        pairs = None if left_out is None else _by_group(left_out, group, len(self.centres))
        wanted = min(k, self.items.shape[1])
        indices = torch.empty(len(tastes), wanted, dtype=torch.int64)
        probabilities = torch.empty(len(tastes), wanted, dtype=torch.float64)
        for number, rows in enumerate(torch.split(order, torch.bincount(group, minlength=len(self.centres)).tolist())):
            if len(rows) == 0:
                continue
            listed = self.items[number]
            scores = self.catalogue.scores(tastes[rows], torch.cat([listed, self.others[number]]))  # (n, N + S)
            own, rest = scores[:, : len(listed)], scores[:, len(listed) :]
            log_total = torch.logsumexp(torch.cat([own, rest + self.log_stands_for[number]], dim=1).double(), dim=1, keepdim=True)
            offered = own if pairs is None else _left_out(own, rows, listed, pairs[number])
            values, place = offered.topk(wanted)
            indices[rows] = torch.where(values == -torch.inf, PAD, listed[place])
            probabilities[rows] = (values.double() - log_total).exp()
        return indices, probabilities


def build(
    catalogue: Catalogue, tastes: NDArray[np.float32], closed: NDArray[np.bool_] | None, *, groups: int, recall: float, k: int, seed: int
) -> tuple[Shortlists | None, Found]:
    """Shortlists that hold `recall` of users' best k, and what they are worth; None where they would be half of the catalogue.

    tastes: (U, D) of users drawn at random: four fifths are grouped, a tenth says how long lists must be, a tenth what they are worth
    closed: (num_items,) items that nobody is to be shown: on no list
    """
    import faiss

    apart = max(1, len(tastes) // 10)
    grouped, asked, judged = np.split(tastes, [len(tastes) - 2 * apart, len(tastes) - apart])
    means = faiss.Kmeans(tastes.shape[1], min(groups, len(grouped)), niter=10, seed=seed, min_points_per_centroid=1)
    means.train(np.ascontiguousarray(grouped))
    assert means.centroids is not None
    centres = torch.from_numpy(means.centroids.copy())
    shut = torch.zeros(len(catalogue), dtype=torch.bool) if closed is None else torch.from_numpy(closed)[FIRST_INDEX:]

    group = _nearest(centres, torch.from_numpy(asked))
    best, _ = _exact(catalogue, torch.from_numpy(asked), k, closed)
    of_groups = [_depths(catalogue, centre, best[group == number], shut) for number, centre in enumerate(centres)]
    depths = torch.cat(of_groups).sort().values
    enough = int(depths[min(len(depths) - 1, int((1 - MARGIN * (1 - recall)) * len(depths)))])
    length = min(max(k, enough), int((~shut).sum()))
    if length > len(catalogue) // 2:
        return None, Found(users=len(judged), items=length, recall=1.0, off=0.0)
    generator = torch.Generator().manual_seed(seed)
    at_once = max(1, SCORES_AT_ONCE // len(catalogue))
    lists = [_listed(catalogue, part, length, shut, generator) for part in torch.split(centres, at_once)]
    items, others, log_stands_for = (torch.cat(parts) for parts in zip(*lists, strict=True))
    made = Shortlists(catalogue, {"centres": centres, "items": items, "others": others, "log_stands_for": log_stands_for})
    return made, _worth(made, torch.from_numpy(judged), k, closed)


def _nearest(centres: Tensor, tastes: Tensor) -> Tensor:
    """(U,): the nearest centre of each taste, (U, D)."""
    return (centres.square().sum(1) - 2 * tastes @ centres.T).argmin(1)


def _exact(catalogue: Catalogue, tastes: Tensor, k: int, closed: NDArray[np.bool_] | None) -> tuple[Tensor, Tensor]:
    """As `Catalogue.best`, of all items that are not closed."""
    if closed is None:
        return catalogue.best(tastes, k)
    filters, nobodys = Filters(closed=closed, category=np.zeros(len(closed), dtype=np.int64)), np.zeros(0, dtype=np.int64)
    return catalogue.best(tastes, k, LeftOut.of(filters, nobodys, nobodys))


def _depths(catalogue: Catalogue, centre: Tensor, wanted: Tensor, shut: Tensor) -> Tensor:
    """For each of the `wanted` items: how long the centre's list must be to hold it. PAD is none."""
    wanted = wanted[wanted != PAD]
    if len(wanted) == 0:
        return torch.empty(0, dtype=torch.int64)
    scores = catalogue.scores(centre[None])[0].masked_fill(shut, -torch.inf)
    of_wanted = scores[wanted - FIRST_INDEX]
    as_good = scores[scores >= of_wanted.min()].sort().values  # few, of millions
    return len(as_good) - torch.searchsorted(as_good, of_wanted)


def _listed(catalogue: Catalogue, centres: Tensor, length: int, shut: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Shortlists of these centres; of all other items, shut ones among them, S drawn, and how many each stands for."""
    scores = catalogue.scores(centres)  # (c, I)
    items = scores.masked_fill(shut, -torch.inf).topk(length, sorted=False).indices.sort(1).values
    rest = scores.scatter(1, items, -torch.inf)
    share = torch.softmax(rest, dim=1)
    likeliest, place = share.max(1, keepdim=True)
    log_total = rest.gather(1, place) - likeliest.log()
    up_to = share.cumsum(1, dtype=torch.float64)
    uniform = torch.rand(len(centres), DRAWN, generator=generator, dtype=torch.float64) * up_to[:, -1:]
    others = torch.searchsorted(up_to, uniform, right=True).clamp(max=scores.shape[1] - 1)
    log_stands_for = log_total - rest.gather(1, others) - np.log(DRAWN)
    return items + FIRST_INDEX, others + FIRST_INDEX, log_stands_for


def _worth(made: Shortlists, tastes: Tensor, k: int, closed: NDArray[np.bool_] | None) -> Found:
    exact, found = _exact(made.catalogue, tastes, k, closed), made.best(tastes, k)
    hits = (found[0][:, :, None] == exact[0][:, None]).any(2).double().mean()
    off = (_log_total(made.catalogue, tastes, *found) - _log_total(made.catalogue, tastes, *exact)).expm1().abs().quantile(0.95)
    return Found(users=len(tastes), items=made.items.shape[1], recall=float(hits), off=float(off))


def _log_total(catalogue: Catalogue, tastes: Tensor, indices: Tensor, probabilities: Tensor) -> Tensor:
    """(U,): the log of the sum over all items that these (U, k) probabilities were divided by."""
    scores = (catalogue.one_more(tastes) * catalogue.weights[indices[:, 0] - FIRST_INDEX]).sum(1)
    return scores.double() - probabilities[:, 0].log()


def _by_group(left_out: LeftOut, group: Tensor, groups: int) -> list[tuple[Tensor, Tensor]]:
    """The pairs of row and item that are left out, of each group's rows."""
    of_pair = group[left_out.row]
    order, sizes = torch.argsort(of_pair), torch.bincount(of_pair, minlength=groups).tolist()
    return list(zip(torch.split(left_out.row[order], sizes), torch.split(left_out.item[order], sizes), strict=True))


def _left_out(own: Tensor, rows: Tensor, listed: Tensor, pairs: tuple[Tensor, Tensor]) -> Tensor:
    """The (n, N) scores of these rows and listed items, -inf where a pair says so."""
    row, item = pairs
    place = torch.searchsorted(listed, item).clamp(max=len(listed) - 1)
    there = listed[place] == item
    found = own.clone()
    found[torch.searchsorted(rows, row[there]), place[there]] = -torch.inf
    return found
