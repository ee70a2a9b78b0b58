"""Campaigns, whom they reached and who answered, beside users' events. numpy only, as windows.py; its legend holds here, and C campaigns.

A contact is an exposure to a campaign, or an answer to one, such as a coupon that was redeemed. Contacts lie beside a user's events, not
among them: what a user did is one thing, what was done to win the user another.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Int32 = NDArray[np.int32]
Int64 = NDArray[np.int64]
NONE = -1  # the campaign of a row that has none
NEVER = np.iinfo(np.int64).max // 2  # after all times, with room to subtract one


@dataclass(frozen=True, kw_only=True)
class Campaigns:
    """ids: (C,) the shop's own; kind, days: (C,), a code from 1 on (0: not given), and how long it lasts; ends: (C,) microseconds
    items, categories: of each campaign the (n,) vocabulary indices of what it is about
    """

    ids: tuple[str, ...]
    kind: Int32
    days: Int32
    ends: Int64
    items: tuple[Int32, ...]
    categories: tuple[Int32, ...]

    def __len__(self) -> int:
        return len(self.kind)


_NOTHING = np.zeros(0, dtype=np.int32)
NO_CAMPAIGNS = Campaigns(ids=(), kind=_NOTHING, days=_NOTHING, ends=_NOTHING.astype(np.int64), items=(), categories=())


@dataclass(frozen=True, kw_only=True)
class Contacts:
    """Those of user u are [offset[u], offset[u + 1]) of the flat columns, by time. campaign: a place among the campaigns."""

    offset: Int64
    time: Int64
    campaign: Int64
    is_answer: NDArray[np.bool_]

    @property
    def user(self) -> Int64:
        """(N,): whose each contact is."""
        return np.repeat(np.arange(len(self.offset) - 1), np.diff(self.offset))

    def exposures(self) -> tuple[Int64, Int64, Int64]:
        """User, time and campaign of each, once."""
        found = np.stack([self.user, self.time, self.campaign], axis=1)[~self.is_answer]
        user, time, campaign = np.unique(found, axis=0).T
        return user, time, campaign

    def first_answers(self, user: Int64, campaign: Int64, since: Int64) -> Int64:
        """(R,): when each user first answered that campaign, at `since` or later; NEVER for who did not."""
        answers = np.flatnonzero(self.is_answer)
        order = answers[np.lexsort((self.time[answers], self.campaign[answers], self.user[answers]))]
        span = int(max(self.campaign.max(initial=0), campaign.max(initial=0))) + 2
        keys, wanted = self.user[order] * span + self.campaign[order], user * span + campaign
        low, end = np.searchsorted(keys, wanted), np.searchsorted(keys, wanted, side="right")
        first = places_until(self.time[order], low, end, since - 1)
        return np.where(first < end, np.append(self.time[order], 0)[np.minimum(first, len(order))], NEVER)


def places_until(time: Int64, low: Int64, high: Int64, moment: Int64 | int) -> Int64:
    """(R,): of each run [low, high) of rising times, the end of those at or before the moment.

    A binary search in all of them at once: as many passes as the longest run has bits.
    """
    while (open_ := low < high).any():
        middle = (low + high) // 2
        known = time[np.minimum(middle, len(time) - 1)] <= moment
        low, high = np.where(open_ & known, middle + 1, low), np.where(open_ & ~known, middle, high)
    return low


def facts(contacts: Contacts, campaigns: Campaigns, user: Int64, as_of: Int64, campaign: Int64) -> dict[str, Int32]:
    """Those of contract.FACTS that speak of contacts, and of the row's campaign, each (R,). What happened at as_of itself is not known."""
    begin = contacts.offset[user]
    before = places_until(contacts.time, begin, contacts.offset[user + 1], as_of - 1)
    answers = np.append(0, np.cumsum(contacts.is_answer))
    answered = answers[before] - answers[begin]
    padded = {
        "campaign_kind": np.append(campaigns.kind, 0),
        "campaign_days": np.append(campaigns.days, 0),
        "campaign_items": np.append([len(items) for items in campaigns.items], 0),
    }
    return {
        "exposures": (before - begin - answered).astype(np.int32),
        "answers": answered.astype(np.int32),
        **{name: column[campaign].astype(np.int32) for name, column in padded.items()},  # NONE takes the last one
    }


def bought(codes: Int32, wanted: tuple[Int32, ...], first: Int64, end: Int64, campaign: Int64) -> Int32:
    """(R,): how many of the events [first, end) have a code that the row's campaign is about. codes: (N,), of all events"""
    count = np.zeros(len(campaign), dtype=np.int32)
    for number in np.unique(campaign[campaign != NONE]):
        is_about = np.zeros(max(codes.max(initial=0), wanted[number].max(initial=0)) + 1, dtype=np.bool_)
        is_about[wanted[number]] = True
        so_far = np.append(0, np.cumsum(is_about[codes]))
        rows = campaign == number
        count[rows] = so_far[end[rows]] - so_far[first[rows]]
    return count
