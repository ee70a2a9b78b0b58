"""vsknn and stan: what the sessions hold that are most like this one, out of a memory of recent sessions.

vsknn  Ludewig & Jannach 2018, Evaluation of session-based recommendation algorithms, section 3.2: later events of the row count more,
       in how alike a session is and in what its items are worth
stan   Garg et al. 2019, Sequence and time aware neighborhood for session-based recommendations: besides, recent sessions count more,
       and of a session the items near the one that it shares

Both weigh rare items more (Ludewig et al. 2021, Empirical analysis of session-based recommendation algorithms: VSKNN and VSTAN).

Legend: B rows, T events, I items, S sessions in the memory, oldest first, M distinct items of all of them, E pairs of a row and a session.
All rows of a part go through it together, by sorting and adding up indices; nothing is ever B times S large.
"""

import torch
from torch import Tensor

from foretaste.contract import FIRST_INDEX, Batch, Sizes
from foretaste.models.counted import Counted, Options, entries

ROWS_AT_ONCE = 64
_OLDEST = 1e-9  # less than any difference of similarities: among equal ones the recent session goes first


class Neighbours(Counted):
    """Tables, the memory: two tables of lists over the same (session, item) pairs, each pair once.

    by session: session_offset (S + 1,), session_item (M,), session_place (M,): the item's last place in the session, counted from 0
    by item:    item_offset (I + 1,), item_session (M,) rising, item_place (M,): only its `sample` most recent sessions are needed
    item_frequency (I,): in how many sessions of the memory an item is
    age (S,):   days before the newest session ended
    """

    def __init__(self, *, sizes: Sizes, options: Options) -> None:
        offsets = dict.fromkeys(("session_offset", "item_offset"), torch.int64)
        columns = dict.fromkeys(("session_item", "session_place", "item_session", "item_place", "item_frequency"), torch.int32)
        super().__init__(sizes=sizes, options=options, tables={**offsets, **columns, "age": torch.float32})

    def event_weight(self, back: Tensor) -> Tensor:
        """What an event counts for in the likeness, by how many events of the row came after it. (n,) → (n,)"""
        raise NotImplementedError

    def likeness(self, shared: Tensor, session: Tensor) -> Tensor:
        """From the summed weights of shared items and the sessions, (E,) each → (E,) positive."""
        raise NotImplementedError

    def worth(self, back: Tensor, places: Tensor) -> Tensor:
        """What an item of a neighbour is worth. back: events after the latest shared one in the row; places: of the item from that one
        in the neighbour, its absolute value; (n,) each → (n,)
        """
        raise NotImplementedError

    def evidence(self, batch: Batch[Tensor]) -> Tensor:
        return torch.cat([self._evidence(part) for part in torch.split(batch.item.long(), ROWS_AT_ONCE)])

    def _evidence(self, item: Tensor) -> Tensor:
        row, known, back = distinct(item, self.num_items)  # of each row its distinct items, and the events after each
        of, entry = entries(self._table("item_offset"), known)
        session, place = self._table("item_session")[entry].long(), self._table("item_place")[entry].long()
        row, back, weight = row[of], back[of], self.event_weight(back)[of]

        num_sessions = len(self._table("age"))
        pairs, pair = torch.unique(row * num_sessions + session, return_inverse=True)  # (E,), rising by row, then by session
        shared = torch.zeros(len(pairs), dtype=torch.float64, device=item.device).index_add_(0, pair, weight)
        most = int(self._table("session_place").max()) + 1 if len(entry) else 1
        latest = torch.full_like(pairs, torch.iinfo(torch.int64).max).scatter_reduce_(0, pair, back * most + place, "amin")
        row, session, back, place = pairs // num_sessions, pairs % num_sessions, latest // most, latest % most

        newer = torch.bincount(row, minlength=len(item)).cumsum(0)[row] - 1 - torch.arange(len(row), device=item.device)
        recent = newer < self.options.sample
        row, session, back, place, shared = row[recent], session[recent], back[recent], place[recent], shared[recent]
        likeness = self.likeness(shared, session)
        chosen = largest(likeness + _OLDEST * session / num_sessions, row, len(item), self.options.k)
        row, session, back, place, likeness = row[chosen], session[chosen], back[chosen], place[chosen], likeness[chosen]

        of, entry = entries(self._table("session_offset"), session)
        away = (self._table("session_place")[entry] - place[of]).abs()
        worth = (likeness[of] * self.worth(back[of], away)).float()
        evidence = torch.zeros(len(item) * self.num_items, device=item.device)
        evidence.index_add_(0, row[of] * self.num_items + self._table("session_item")[entry], worth)
        return evidence.view(len(item), self.num_items) * self.rarity()

    def rarity(self) -> Tensor:
        """(I,): the inverse document frequency of each item, log(1 + sessions / sessions with it): common items come up by chance."""
        return torch.log1p(len(self._table("age")) / self._table("item_frequency").clamp(min=1))

    def size(self, session: Tensor) -> Tensor:
        """Distinct items of each session, as float64."""
        offset = self._table("session_offset")
        return (offset[session + 1] - offset[session]).double()


class VSkNN(Neighbours):
    """The cosine of the session with the row, whose events weigh 1, 1/2, 1/3, … from the last one back; the item's worth is squared so,
    by the latest event that both share. Of the paper's choices the best on validation rows of two public data sets.
    """

    def event_weight(self, back: Tensor) -> Tensor:
        return 1.0 / (back.double() + 1)

    def likeness(self, shared: Tensor, session: Tensor) -> Tensor:
        return shared / self.size(session).sqrt()

    def worth(self, back: Tensor, places: Tensor) -> Tensor:
        return 1.0 / (back.double() + 1).square()


class STAN(Neighbours):
    """Equations 1 to 5 of the paper, with exponential decay by place in the row (λ1), by age (λ2), and by place in the session (λ3).

    The age counts from the newest session: from the row's own moment all neighbours would be so much older, which changes no share.
    """

    def event_weight(self, back: Tensor) -> Tensor:
        return (-back.double() / self.options.stan_history).exp()

    def likeness(self, shared: Tensor, session: Tensor) -> Tensor:
        recency = (-self._table("age")[session].double() / self.options.stan_recency).exp()
        return shared * recency / self.size(session).sqrt()

    def worth(self, back: Tensor, places: Tensor) -> Tensor:
        return (-places.double() / self.options.stan_place).exp()


def distinct(item: Tensor, num_items: int) -> tuple[Tensor, Tensor, Tensor]:
    """(n,) rows, (n,) their distinct known items, (n,) how many events of the row come after the item's latest one. item: (B, T)"""
    row, column = (item >= FIRST_INDEX).nonzero(as_tuple=True)
    pairs, pair = torch.unique(row * num_items + item[row, column], return_inverse=True)
    after = item.shape[1] - 1 - column  # left-padded: the last event stands in the last column
    back = torch.full_like(pairs, item.shape[1]).scatter_reduce_(0, pair, after, "amin")
    return pairs // num_items, pairs % num_items, back


def largest(value: Tensor, row: Tensor, num_rows: int, k: int) -> Tensor:
    """Places of the k largest values of each row; value, row: (E,), rows rising."""
    count = torch.bincount(row, minlength=num_rows)
    if len(row) == 0 or int(count.max()) <= k:
        return torch.arange(len(row), device=row.device)
    start = count.cumsum(0) - count
    column = torch.arange(len(row), device=row.device) - start[row]
    table = torch.full((num_rows, int(count.max())), -torch.inf, dtype=value.dtype, device=value.device)
    table[row, column] = value
    best = table.topk(k, dim=1, sorted=False)  # (rows, k)
    return (best.indices + start[:, None])[best.values > -torch.inf]
