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
    cuts = Cuts(split=0, cut=0, user=one, as_of=one, first=one, end=one, earlier=one, stop=one)
    ((_, columns),) = lay_out(events_of([], [3]), cuts, 3, ())
    assert (columns["item"].tolist(), columns["length"].tolist(), columns["recency"].tolist()) == ([[0, 0, 0]], [0], [1])


def test_recency_is_the_time_since_the_last_known_event() -> None:
    zeros, ones = np.zeros(3, int), np.ones(3, int)
    cuts = Cuts(split=0, cut=0, user=zeros, as_of=np.array([4, 5, 11]) * SECOND, first=zeros, end=ones, earlier=zeros, stop=ones)
    ((_, columns),) = lay_out(events_of([4]), cuts, 2, ())
    assert columns["recency"].tolist() == [2, 3, 5]  # 0 s, 1 s, 4 to 7 s


def test_a_row_begins_where_its_history_does() -> None:
    cuts = Cuts(split=0, cut=0, user=np.array([0]), as_of=np.array([9]), first=np.array([1]), end=np.array([3]), earlier=np.array([2]),
                stop=np.array([3]))  # fmt: skip
    ((_, columns),) = lay_out(events_of([1, 2, 3]), cuts, 4, ())
    assert (columns["item"].tolist(), columns["length"].tolist(), columns["fresh"].tolist()) == ([[0, 0, 3, 4]], [2], [1])


def test_hours_and_weekdays_are_local() -> None:
    berlin = (np.array([0, 100 * 3600 * SECOND]), np.array([3600 * SECOND, 7200 * SECOND]))  # an hour ahead, two from hour 100 on
    time = np.array([0, 23, 99, 100]) * 3600 * SECOND  # from Thursday, 1 January 1970, 00:00 UTC
    hour, weekday = local_hours(time, berlin)
    assert hour.tolist() == [1, 0, 4, 6]
    assert weekday.tolist() == [3, 4, 0, 0]
