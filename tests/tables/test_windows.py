"""Rows of fixed length from cuts, on users whose events are numbered by their item, from 2 on. Times are in seconds here."""

import numpy as np
import pytest

from foretaste.contract import local_hours
from foretaste.tables.windows import Cuts, count_until, lay_out
from tests.tables.test_cuts import SECOND, events_of


@pytest.mark.parametrize(("user", "moment", "end"), [(0, 0, 0), (0, 1, 1), (0, 4, 1), (0, 5, 3), (0, 99, 3), (1, 0, 3), (1, 2, 4)])
def test_count_until(user: int, moment: int, end: int) -> None:
    assert count_until(events_of([1, 5, 5], [2]), np.array([user]), np.array([moment * SECOND])).tolist() == [end]


def test_a_user_without_known_events_is_all_padding() -> None:
    one = np.array([0])
    cuts = Cuts(split=0, cut=0, user=one, as_of=one, first=one, end=one, earlier=one, stop=one, reach=one, known=one)
    ((_, columns),) = lay_out(events_of([], [3]), cuts, 3, ())
    assert (columns["item"].tolist(), columns["length"].tolist(), columns["recency"].tolist()) == ([[0, 0, 0]], [0], [1])


def test_recency_is_the_time_since_the_last_known_event() -> None:
    zeros, ones = np.zeros(3, int), np.ones(3, int)
    cuts = Cuts(
        split=0,
        cut=0,
        user=zeros,
        as_of=np.array([4, 5, 11]) * SECOND,
        first=zeros,
        end=ones,
        earlier=zeros,
        stop=ones,
        reach=ones,
        known=zeros,
    )
    ((_, columns),) = lay_out(events_of([4]), cuts, 2, ())
    assert columns["recency"].tolist() == [2, 3, 5]  # 0 s, 1 s, 4 to 7 s


def test_facts_are_of_all_that_was_known_however_short_the_row() -> None:
    """Events with an even number are activity; sessions open after an hour. 2 | 4 5 6 | 7 || 9: one user, then one who was never active."""
    hours = [0, 30, 31, 31.5, 60]
    events = events_of([int(hour * 3600) for hour in hours], [0], pause=3600)
    events.is_active[:] = [True, True, False, True, False, False]
    at = np.array([0, 1, 30, 31.4, 32, 70, 5]) * 3600 * SECOND
    user = np.array([0, 0, 0, 0, 0, 0, 1])
    first, end = events.offset[user], count_until(events, user, at.astype(np.int64))
    cuts = Cuts(split=0, cut=0, user=user, as_of=at.astype(np.int64), first=first, end=end, earlier=first, stop=end, reach=end, known=at)
    ((_, columns),) = lay_out(events, cuts, 2, ())
    assert columns["repeats"].tolist() == [0, 0, 1, 1, 1, 1, 0]
    assert columns["idle_hours"].tolist() == [0, 1, 0, 1, 0, 38, 5]
    assert columns["tenure_hours"].tolist() == [0, 1, 30, 31, 32, 70, 5]


def test_a_row_begins_where_its_history_does() -> None:
    cuts = Cuts(split=0, cut=0, user=np.array([0]), as_of=np.array([9]), first=np.array([1]), end=np.array([3]), earlier=np.array([2]),
                stop=np.array([3]), reach=np.array([3]), known=np.array([9]))  # fmt: skip
    ((_, columns),) = lay_out(events_of([1, 2, 3]), cuts, 4, ())
    assert (columns["item"].tolist(), columns["length"].tolist(), columns["fresh"].tolist()) == ([[0, 0, 3, 4]], [2], [1])


def test_hours_and_weekdays_are_local() -> None:
    berlin = (np.array([0, 100 * 3600 * SECOND]), np.array([3600 * SECOND, 7200 * SECOND]))  # an hour ahead, two from hour 100 on
    time = np.array([0, 23, 99, 100]) * 3600 * SECOND  # from Thursday, 1 January 1970, 00:00 UTC
    hour, weekday = local_hours(time, berlin)
    assert hour.tolist() == [1, 0, 4, 6]
    assert weekday.tolist() == [3, 4, 0, 0]
