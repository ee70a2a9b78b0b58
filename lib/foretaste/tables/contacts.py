"""Campaigns, whom they reached and who answered, beside users' events. numpy only, as windows.py; its legend holds here, and C campaigns.

A contact is an exposure to a campaign, an answer to one, such as a coupon that was redeemed, or that the user was left out of one, drawn at
random, to tell what it is worth. Contacts lie beside a user's events, not among them: what a user did is one thing, what was done to win
the user another.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Int32 = NDArray[np.int32]
Int64 = NDArray[np.int64]
EXPOSURE, ANSWER, CONTROL = range(3)  # kinds of contacts
NONE = -1  # the campaign of a row that has none
FEW_ANSWERS, FEW_CAMPAIGNS = 0.2, 2.0  # what is added to a user's own, so that little is told by little
NEVER = np.iinfo(np.int64).max // 2  # after all times, with room to subtract one


@dataclass(frozen=True, kw_only=True)
class Campaigns:
    """ids: (C,) the shop's own; kind, days: (C,), a code from 1 on (0: not given), and how long it lasts; ends: (C,) microseconds
    items, categories: of each campaign the (n,) vocabulary indices of what it is about
    has_control: (C,) whether anybody was left out of it at random
    """

    ids: tuple[str, ...]
    kind: Int32
    days: Int32
    ends: Int64
    items: tuple[Int32, ...]
    categories: tuple[Int32, ...]
    has_control: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.kind)


_NOTHING = np.zeros(0, dtype=np.int32)
NO_CAMPAIGNS = Campaigns(
    ids=(), kind=_NOTHING, days=_NOTHING, ends=_NOTHING.astype(np.int64), items=(), categories=(), has_control=_NOTHING.astype(bool)
)


@dataclass(frozen=True, kw_only=True)
class Contacts:
    """Those of user u are [offset[u], offset[u + 1]) of the flat columns, by time. campaign: a place among the campaigns."""

    offset: Int64
    time: Int64
    campaign: Int64
    kind: NDArray[np.int8]

    @property
    def user(self) -> Int64:
        """(N,): whose each contact is."""
        return np.repeat(np.arange(len(self.offset) - 1), np.diff(self.offset))

    def exposures(self) -> tuple[Int64, Int64, Int64]:
        """User, time and campaign of each, once."""
        found = np.stack([self.user, self.time, self.campaign], axis=1)[self.kind == EXPOSURE]
        user, time, campaign = np.unique(found, axis=0).T
        return user, time, campaign

    def trials(self, has_control: NDArray[np.bool_]) -> tuple[Int64, Int64, Int64, Int32]:
        """User, time and campaign of the first contact with each campaign that left users out, and 1 where it reached the user, else 0.

        Who was left out and was reached later all the same stays with those who were left out, as drawn.
        """
        those = np.flatnonzero((self.kind != ANSWER) & np.append(has_control, False)[self.campaign])
        user, campaign, time, kind = self.user[those], self.campaign[those], self.time[those], self.kind[those]
        order = np.lexsort((kind == EXPOSURE, time, campaign, user))  # of two at the same moment, being left out is the first
        user, campaign, time, kind = user[order], campaign[order], time[order], kind[order]
        is_first = np.append(True, (user[1:] != user[:-1]) | (campaign[1:] != campaign[:-1]))[: len(user)]
        return user[is_first], time[is_first], campaign[is_first], (kind[is_first] == EXPOSURE).astype(np.int32)

    def first_answers(self, user: Int64, campaign: Int64, since: Int64) -> Int64:
        """(R,): when each user first answered that campaign, at `since` or later; NEVER for who did not."""
        answers = np.flatnonzero(self.kind == ANSWER)
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
    answered, reached = (
        so_far[before] - so_far[begin] for so_far in (np.append(0, np.cumsum(contacts.kind == kind)) for kind in (ANSWER, EXPOSURE))
    )
    padded = {
        "campaign_kind": np.append(campaigns.kind, 0),
        "campaign_days": np.append(campaigns.days, 0),
        "campaign_items": np.append([len(items) for items in campaigns.items], 0),
    }
    return {
        "exposures": reached.astype(np.int32),
        "answers": answered.astype(np.int32),
        "answer_rate": np.rint(1000 * (answered + FEW_ANSWERS) / (reached + FEW_CAMPAIGNS)).astype(np.int32),
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
