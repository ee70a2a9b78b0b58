"""Flat, time-ordered events of whole users → rows of fixed length. numpy only: executors run this for many users at once.

Legend: U users, H histories (a user's, or a session's: see cuts.py), N events, R rows, T length of a row.
Events of history h are [offset[h], offset[h + 1]) of every flat column. Times are int64 microseconds since 1970, UTC.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from foretaste.contract import FACTS, FEATURES, PAD, UNKNOWN, Future, Label, gap_bucket
from foretaste.tables import contacts
from foretaste.tables.contacts import NEVER, NO_CAMPAIGNS, NONE, Campaigns, Contacts, places_until

Int32 = NDArray[np.int32]
Int64 = NDArray[np.int64]
OPENS = 2  # what the feature `opens_session` says of a session's first event
HOUR = 3_600_000_000
BLOCK_ROWS = 8192  # rows that are laid out at once, at most …
BLOCK_NUMBERS = 1 << 19  # … and numbers in one of their features: memory knows a bound


@dataclass(frozen=True, kw_only=True)
class Events:
    """offset: (H + 1,); owner: (H,), the user whose history each is, rising; time: (N,), rising within a history;
    features: name → (N,) int32; target: (N,) int32, the item as contract.Future names it; is_active: (N,) whether it counts as activity.
    contacts: of the same users, where histories are users' and there are campaigns
    """

    offset: Int64
    owner: Int64
    time: Int64
    features: Mapping[str, Int32]
    target: Int32
    is_active: NDArray[np.bool_]
    contacts: Contacts | None = None

    @property
    def history(self) -> Int64:
        """(N,): the history that each event is in."""
        return np.repeat(np.arange(len(self.owner)), np.diff(self.offset))

    @property
    def closes_moment(self) -> NDArray[np.bool_]:
        """(N,): whether an event is the last of its history at its time."""
        closes = np.append(self.time[1:] != self.time[:-1], True)[: len(self.time)]
        closes[self.offset[1:][np.diff(self.offset) > 0] - 1] = True
        return closes


def by_session(events: Events) -> Events:
    """The same events with a history for each session: nothing was before its first event. `events` has one for each user."""
    opens = np.flatnonzero(events.features["opens_session"] == OPENS)
    gap = events.features["gap"].copy()
    gap[opens] = UNKNOWN
    return replace(
        events,
        offset=np.append(opens, len(events.time)),
        owner=events.owner[events.history[opens]],
        features={**events.features, "gap": gap},
        contacts=None,
    )


@dataclass(frozen=True, kw_only=True)
class Cuts:
    """R rows to be: whose (a place among the users), at which moment, and the events [first, end) of a history that were known then.

    earlier: where the events end that the row before of the same history, split and cut knew; `first` where there is none
    stop:    events [end, stop) are what followed within the horizon and inside the row's own split
    reach, known: events [end, reach) are what followed inside the split while the row is followed, which ends before the moment `known`
    campaign: what the row asks about, a place among the campaigns; None: no row asks about any
    reached: of rows of a trial: see contract.Future
    split, cut: places in contract.SPLITS and contract.CUTS, the same for all
    """

    split: int
    cut: int
    user: Int64
    as_of: Int64
    first: Int64
    end: Int64
    earlier: Int64
    stop: Int64
    reach: Int64
    known: Int64
    campaign: Int64 | None = None
    reached: Int32 | None = None

    def __len__(self) -> int:
        return len(self.user)

    def rows(self, chosen: slice | NDArray[np.bool_]) -> "Cuts":
        columns = {name: column[chosen] for name, column in vars(self).items() if isinstance(column, np.ndarray)}
        return Cuts(split=self.split, cut=self.cut, **columns)


def count_until(events: Events, history: Int64, moment: Int64 | int) -> Int64:
    """(R,): for each history and moment, the end of its events at or before it, as a place in the flat columns."""
    return places_until(events.time, events.offset[history], events.offset[history + 1], moment)


def lay_out(
    events: Events,
    cuts: Cuts,
    length: int,
    labels: Sequence[Label],
    campaigns: Campaigns = NO_CAMPAIGNS,
    features: Sequence[str] = FEATURES,
) -> Iterator[tuple[Cuts, dict[str, Int32]]]:
    """Blocks of rows: their cuts, and their columns by name: features (R, T) left-padded, length, fresh, recency and facts (R,), labels.

    A user without a known event has length 0, recency UNKNOWN, and nothing but padding. features: those of the events' that are wanted
    """
    padded = {name: np.append(column, np.int32(PAD)) for name, column in events.features.items() if name in features}
    for block in _blocks(cuts, length):
        place = block.end[:, None] + np.arange(-length, 0)  # (R, T)
        place = np.where(place >= block.first[:, None], place, len(events.time))
        columns = {name: column[place] for name, column in padded.items()}
        known = block.end > block.first
        last_event = np.append(events.time, 0)[np.where(known, block.end - 1, len(events.time))]
        columns["length"] = np.minimum(block.end - block.first, length).astype(np.int32)
        columns["fresh"] = np.minimum(block.end - block.earlier, length).astype(np.int32)
        columns["recency"] = gap_bucket(np.where(known, (block.as_of - last_event) / 1e6, np.nan))
        columns |= _facts(events, campaigns, block)
        answer, asked_until = _answers(events, campaigns, block)
        future = Future(
            start=block.end,
            stop=block.stop,
            item=events.target,
            event=events.features["event"],
            time=events.time,
            is_active=events.is_active,
            as_of=block.as_of,
            reach=block.reach,
            known=block.known,
            answer=answer,
            asked_until=asked_until,
            reached=np.full(len(block), -1, dtype=np.int32) if block.reached is None else block.reached,
        )
        columns |= {label.name: label.compute(future) for label in labels if label.compute is not None}
        yield block, columns


def _answers(events: Events, campaigns: Campaigns, block: Cuts) -> tuple[Int64, Int64]:
    """Future.answer and Future.asked_until."""
    if block.campaign is None or events.contacts is None:
        return np.full(len(block), NEVER), block.as_of
    found = events.contacts.first_answers(block.user, block.campaign, block.as_of)
    is_over = campaigns.ends[block.campaign] <= block.known
    return np.where(found < block.known, found, NEVER), np.where(is_over, NEVER, block.known)


def _facts(events: Events, campaigns: Campaigns, block: Cuts) -> dict[str, Int32]:
    """contract.FACTS, each (R,): of all that was known of a history, however long."""
    active = np.flatnonzero(events.is_active)
    session = np.cumsum(events.features["opens_session"] == OPENS)
    opening = active[np.diff(session[active], prepend=-1) != 0]  # the first one of each session that has any
    (first, last), (first_session, last_session) = (np.searchsorted(places, (block.first, block.end)) for places in (active, opening))
    was_active, known = last > first, block.end > block.first
    nowhere = len(events.time)
    active, time = np.append(active, nowhere), np.append(events.time, 0)
    since = {
        "idle_hours": np.where(was_active, active[last - 1], block.first),
        "tenure_hours": np.where(was_active, active[first], block.first),
    }
    campaign = np.full(len(block), NONE) if block.campaign is None else block.campaign
    about = contacts.facts(events.contacts, campaigns, block.user, block.as_of, campaign) if events.contacts else {}
    promoted = {"bought_promoted": ("item", campaigns.items), "bought_category": ("category", campaigns.categories)}
    if block.campaign is not None:
        about |= {
            name: contacts.bought(events.features[feature], codes, block.first, block.end, campaign)
            for name, (feature, codes) in promoted.items()
        }
    nothing = np.zeros(len(block), dtype=np.int32)
    return {name: about.get(name, nothing) for name in FACTS} | {
        "repeats": np.maximum(last_session - first_session - 1, 0).astype(np.int32),
        **{name: np.where(known, (block.as_of - time[place]) // HOUR, 0).astype(np.int32) for name, place in since.items()},
    }


def _blocks(cuts: Cuts, length: int) -> Iterator[Cuts]:
    """Runs of rows that are small enough together."""
    most = max(1, min(BLOCK_ROWS, BLOCK_NUMBERS // length))
    for start in range(0, len(cuts), most):
        yield cuts.rows(slice(start, start + most))
