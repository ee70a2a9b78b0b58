"""Campaigns and whom they reached, on users that a reader can follow, and against plain loops."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from foretaste.tables.contacts import NEVER, NO_CAMPAIGNS, NONE, Campaigns, Contacts, bought, facts, places_until

CAMPAIGNS = Campaigns(
    ids=("easter", "may"),
    kind=np.array([1, 2], dtype=np.int32),
    days=np.array([20, 30], dtype=np.int32),
    ends=np.array([20, 50]),
    items=(np.array([5], dtype=np.int32), np.array([5, 7], dtype=np.int32)),
    categories=(np.array([], dtype=np.int32), np.array([2], dtype=np.int32)),
    has_control=np.array([False, True]),
)
Contact = tuple[int, int, int, int]  # user, time, campaign, kind: 0 an exposure, 1 an answer, 2 left out


def contacts_of(num_users: int, *contacts: Contact) -> Contacts:
    user, time, campaign, kind = (np.array(column) for column in zip(*contacts, strict=True)) if contacts else [np.zeros(0, int)] * 4
    offset = np.searchsorted(user, np.arange(num_users + 1))
    return Contacts(offset=offset, time=time.astype(np.int64), campaign=campaign.astype(np.int64), kind=kind.astype(np.int8))


ANN_AND_BOB = contacts_of(3, (0, 1, 0, False), (0, 4, 0, True), (0, 6, 1, False), (0, 9, 0, True), (2, 6, 1, False), (2, 6, 1, False))


def test_exposures_come_once() -> None:
    assert np.stack(ANN_AND_BOB.exposures(), axis=1).tolist() == [[0, 1, 0], [0, 6, 1], [2, 6, 1]]


def test_a_trial_is_the_first_contact_with_a_campaign_that_left_users_out() -> None:
    """Of the second campaign: the first user was left out and reached later, the second reached and left out at once, the third reached."""
    contacts = contacts_of(
        4, (0, 1, 0, 0), (0, 2, 1, 2), (0, 5, 1, 0), (1, 3, 1, 0), (1, 3, 1, 2), (3, 4, 1, 0), (3, 6, 1, 0), (3, 7, 1, 1)
    )
    found = np.stack(contacts.trials(CAMPAIGNS.has_control), axis=1)
    assert found.tolist() == [[0, 2, 1, 0], [1, 3, 1, 0], [3, 4, 1, 1]]
    assert len(contacts.trials(np.array([False, False]))[0]) == 0
    reached = facts(contacts, CAMPAIGNS, np.array([0]), np.array([9]), np.array([NONE]))["exposures"]
    assert reached.tolist() == [2]  # being left out is no exposure


def test_facts_are_of_what_was_before() -> None:
    user, as_of, campaign = np.array([0, 0, 0, 1, 2]), np.array([1, 5, 9, 9, 7]), np.array([0, NONE, 1, 1, NONE])
    found = facts(ANN_AND_BOB, CAMPAIGNS, user, as_of, campaign)
    assert {name: column.tolist() for name, column in found.items()} == {
        "exposures": [0, 1, 2, 0, 2],
        "answers": [0, 1, 1, 0, 0],  # that of time 9 is not known at 9
        "answer_rate": [100, 400, 300, 100, 50],  # (answers + 0.2) / (exposures + 2)
        "campaign_kind": [1, 0, 2, 2, 0],
        "campaign_days": [20, 0, 30, 30, 0],
        "campaign_items": [1, 0, 2, 2, 0],
    }


def test_no_campaigns_at_all() -> None:
    found = facts(contacts_of(1), NO_CAMPAIGNS, np.array([0]), np.array([3]), np.array([NONE]))
    assert {name: column.tolist() for name, column in found.items() if column.any()} == {"answer_rate": [100]}


def test_first_answers() -> None:
    user, campaign, since = np.array([0, 0, 0, 0, 2]), np.array([0, 0, 0, 1, 1]), np.array([1, 4, 5, 0, 0])
    assert ANN_AND_BOB.first_answers(user, campaign, since).tolist() == [4, 4, 9, NEVER, NEVER]


def test_what_was_bought_of_a_campaigns_items() -> None:
    item = np.array([5, 7, 5, 9, 7], dtype=np.int32)
    first, end, campaign = np.array([0, 0, 0, 1, 0]), np.array([3, 3, 0, 5, 5]), np.array([0, 1, 1, 1, NONE])
    assert bought(item, CAMPAIGNS.items, first, end, campaign).tolist() == [2, 3, 0, 3, 0]
    assert bought(item, CAMPAIGNS.categories, first, end, campaign).tolist() == [0, 0, 0, 0, 0]


ROW = st.tuples(st.integers(0, 2), st.integers(0, 10), st.integers(0, 2))  # user, time, campaign
CONTACT = st.tuples(st.integers(0, 2), st.integers(0, 9), st.integers(0, 2), st.integers(0, 2))


@given(
    st.lists(CONTACT, max_size=20), st.lists(st.tuples(st.integers(0, 2), st.integers(0, 10), st.integers(0, 2)), min_size=1, max_size=8)
)
def test_answers_and_counts_are_those_of_plain_loops(contacts: list[Contact], rows: list[tuple[int, int, int]]) -> None:
    contacts = sorted(contacts)
    given_contacts = contacts_of(3, *contacts)
    user, as_of, campaign = (np.array(column) for column in zip(*rows, strict=True))
    ones, nothing = np.ones(3, np.int32), (np.zeros(0, np.int32),) * 3
    three = Campaigns(
        ids=("a", "b", "c"), kind=ones, days=ones, ends=ones.astype(np.int64), items=nothing, categories=nothing, has_control=ones > 1
    )
    found = facts(given_contacts, three, user, as_of, campaign)
    first = given_contacts.first_answers(user, campaign, as_of)
    for place, (whose, moment, which) in enumerate(rows):
        before = [answer for owner, time, _, answer in contacts if owner == whose and time < moment]
        assert (found["exposures"][place], found["answers"][place]) == (before.count(0), before.count(1))
        since = [time for owner, time, about, answer in contacts if (owner, about, answer) == (whose, which, 1) and time >= moment]
        assert first[place] == min(since, default=NEVER)


@given(st.lists(st.integers(0, 9), max_size=12).map(sorted), st.integers(-1, 10))
def test_places_until_is_a_count(times: list[int], moment: int) -> None:
    found = places_until(np.array(times, dtype=np.int64), np.array([0]), np.array([len(times)]), moment)
    assert found.tolist() == [sum(time <= moment for time in times)]
