"""What Spark and torch agree on: names, codes, dtypes and the Batch. numpy only.

Every integer feature keeps 0 for padding, so that one embedding table with `padding_idx=0` reads any of them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

PAD = 0  # left padding, in every feature
UNKNOWN = 1  # present, but not in the vocabulary (or not given)
FIRST_INDEX = 2  # the first real item, category or price bucket

EVENT_TYPES = (
    "view", "cart", "remove", "wish", "purchase", "search", "exposure", "coupon", "like", "share", "start", "finish", "other", "control",
)  # fmt: skip
EVENT_CODES: Mapping[str, int] = {name: code for code, name in enumerate(EVENT_TYPES, start=1)}

DAY = 86_400_000_000  # microseconds
NUM_GAP_BUCKETS = 28
NUM_HOURS = 24
NUM_WEEKDAYS = 7
NUM_MONTHDAYS = 31
SPLITS = ("train", "valid", "test")
CUTS = ("window", "calendar", "event", "exposure", "trial")
DAILY = ("survival", "incidence")  # heads that answer day by day, see `answers_of`: who stays away, or the other way round, who comes
WAITS = (*DAILY, "uplift")  # heads that learn from when somebody came: labels as `answers_of` takes them
SCALARS = ("length", "fresh", "recency")
FACTS = (
    "repeats", "idle_hours", "tenure_hours", "exposures", "answers", "answer_rate",
    "campaign_kind", "campaign_days", "campaign_items", "bought_promoted", "bought_category",
)  # fmt: skip
"""The (B,) numbers that a row as a whole has, all known at its `as_of`, whatever its length; 0 where there is nothing to tell.

repeats       sessions with an event that counts as activity, but the first
idle_hours    whole hours since the last such event, or, without any, since the first event
tenure_hours  whole hours since the first such event, or, without any, since the first event
exposures     campaigns that reached the user before; answers: answers to any
answer_rate   of 1,000 of those campaigns, how many were answered, as if two more had been with one fifth of an answer (so 100 before the
              first one, where the shop tells of any): unlike the two above it does not grow as time goes by
campaign_…    of rows that ask about a campaign: a code of its kind, how many days it lasts, how many items of the vocabulary it is about
bought_…      the user's events with an item, or a category, that the campaign is about
"""
CODED_FACTS = {"campaign_kind": 16}  # those that are codes, not amounts, and how many codes there are

SERIES_FEATURES = ("units", "price_level", "weekday", "monthday", "promotion")
"""The integers of a row of `series`, a day each, oldest first; days before an item was first sold are PAD. T days are known, H follow:
units          (B, T) what was bought
price_level    (B, T + H) percent of the mean of the known days; of those that follow, the last one known
weekday        (B, T + H) 1 + day of the week, Monday first
monthday       (B, T + H) day of the month
promotion      (B, NUM_PROMOTIONS * (T + H)) percent, one kind after another: of the first kind 100 for each campaign that is about it,
               of the others in how many percent of the shops it is promoted that way. Planned, and so known of days to come
"""
NUM_PROMOTIONS = 4
NUM_CONTENT_WORDS = 1 << 14  # codes of what an item is: hashes of its category, brand, price and the words of its name; PAD among them
WORDS_PER_ITEM = 16
MOST_PROMOTED = 300  # percent
FEATURES = ("item", "event", "gap", "opens_session", "price", "category", "hour", "weekday")
"""The (B, T) integer features of a row, all known before its `as_of`, oldest first, left-padded with PAD:
item           index in the vocabulary
event          EVENT_CODES of the event's type
gap            gap_bucket of the seconds since the user's previous event
opens_session  2 where the event is the first of its session, else 1
price          bucket of the unit price (vocabulary field `price`), UNKNOWN without one
category       index in the vocabulary
hour, weekday  1 + hour of the day, 1 + day of the week (Monday first), in the shop's time zone
"""


def gap_bucket(seconds: NDArray[Any]) -> NDArray[np.int32]:
    """Seconds since the previous event → 1 + its number of bits, at most NUM_GAP_BUCKETS - 1; a NaN (no previous event) → UNKNOWN.

    0 s → 2, 1 s → 3, 2-3 s → 4, …: a bucket a doubling, so minutes and months are told apart alike. Buckets: 2 … NUM_GAP_BUCKETS - 1.
    """
    known = np.nan_to_num(np.asarray(seconds, dtype=np.float64), nan=0.0)
    bits = np.frexp(np.floor(np.maximum(known, 0.0)))[1]  # frexp's exponent of a whole number is its number of bits
    buckets = np.minimum(bits + FIRST_INDEX, NUM_GAP_BUCKETS - 1)
    return np.where(np.isnan(seconds), UNKNOWN, buckets).astype(np.int32)


def seconds_of(bucket: NDArray[Any], point: NDArray[Any]) -> NDArray[np.int64]:
    """The other way round: seconds that fall into each bucket, `point` in [0, 1) of the way from its least to its most; 0 for UNKNOWN.

    The last bucket has no end; it is taken to be as wide as its least is long, like the others.
    """
    least = np.exp2(np.maximum(bucket - FIRST_INDEX - 1, 0)).astype(np.int64)  # of bucket 3, a second
    return np.where(bucket > FIRST_INDEX, least + np.floor(point * least).astype(np.int64), 0)


def local_hours(
    time: NDArray[np.int64], offsets: tuple[NDArray[np.int64], NDArray[np.int64]]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Microseconds since 1970 → hour of the day, day of the week (Monday 0), in the zone of `offsets`: from each moment on, so many."""
    since, offset = offsets
    hours = (time + offset[np.maximum(np.searchsorted(since, time, side="right") - 1, 0)]) // 3_600_000_000
    return hours % 24, (hours // 24 + 3) % 7  # 1970 began on a Thursday


Array = TypeVar("Array")


@dataclass(frozen=True, kw_only=True)
class Batch(Generic[Array]):
    """B examples, as numpy arrays or torch tensors.

    features: name in FEATURES → (B, T) int32, left-padded with PAD; of a series, those of SERIES_FEATURES
    length:   (B,) int32, the number of real events at the right end of each row
    fresh:    (B,) int32, how many of the rightmost events no earlier training row of the same user holds:
              training on just those counts every event once, however much the windows overlap
    recency:  (B,) int32, gap_bucket of the seconds from the last event to `as_of`
    labels:   label name → (B,) or (B, K), what happened after as_of: within the horizon, unless the label says otherwise
    facts:    name in FACTS → (B,) int32
    """

    features: dict[str, Array]
    length: Array
    fresh: Array
    recency: Array
    labels: dict[str, Array] = field(default_factory=dict)
    facts: dict[str, Array] = field(default_factory=dict)

    @property
    def item(self) -> Array:
        return self.features["item"]

    def map(self, function: Callable[[Array], Any]) -> "Batch[Any]":
        """The same batch with `function` applied to each array (to a device, to numpy, …)."""
        return Batch(
            features={name: function(array) for name, array in self.features.items()},
            length=function(self.length),
            fresh=function(self.fresh),
            recency=function(self.recency),
            labels={name: function(array) for name, array in self.labels.items()},
            facts={name: function(array) for name, array in self.facts.items()},
        )


@dataclass(frozen=True, kw_only=True)
class Future:
    """What N examples' users did after `as_of`, within the horizon: events [start, stop) of flat, time-ordered columns.

    start, stop: (N,) int64, offsets into the columns below
    item:  (M,) int32, vocabulary index; PAD where an event has none, and a negative number, one an item, where the vocabulary lacks it
    event: (M,) int32, event code
    time:  (M,) int64, microseconds since 1970
    is_active: (M,) bool, whether an event counts as activity
    as_of: (N,) int64, microseconds
    reach: (N,) int64, offsets: events [start, reach) are those of the row's own split for as long as it is followed, beyond the horizon too
    known: (N,) int64, microseconds: for so long it is followed: what happened before this moment is known of it, and lies in the split
    answer: (N,) int64, microseconds: when the row's campaign was first answered, at as_of or later, before `known`; far ahead if never
    asked_until: (N,) int64: when answering ends; far ahead where all of it is before `known`, and as_of where the row has no campaign
    reached: (N,) int32: of rows of a trial, 1 where the campaign reached the user and 0 where it left the user out; -1 of other rows
    """

    start: NDArray[np.int64]
    stop: NDArray[np.int64]
    item: NDArray[np.int32]
    event: NDArray[np.int32]
    time: NDArray[np.int64]
    is_active: NDArray[np.bool_]
    as_of: NDArray[np.int64]
    reach: NDArray[np.int64]
    known: NDArray[np.int64]
    answer: NDArray[np.int64]
    asked_until: NDArray[np.int64]
    reached: NDArray[np.int32]


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """How many codes each vocabulary-bound feature has, PAD and UNKNOWN included: the rows of its embedding table.

    length: T of the rows that a model learns from; it may score others
    days:   how many days ahead a head of DAILY, or one of counts, tells
    """

    num_items: int
    num_categories: int = FIRST_INDEX
    num_price_buckets: int = FIRST_INDEX
    length: int = 50
    days: int = 7

    def of(self, feature: str) -> int:
        """The number of codes of a name in FEATURES, or of a day of SERIES_FEATURES."""
        return {
            "item": self.num_items,
            "event": len(EVENT_TYPES) + 1,
            "gap": NUM_GAP_BUCKETS,
            "opens_session": 3,
            "price": self.num_price_buckets,
            "category": self.num_categories,
            "hour": NUM_HOURS + 1,
            "weekday": NUM_WEEKDAYS + 1,
            "monthday": NUM_MONTHDAYS + 1,
        }[feature]


@dataclass(frozen=True, kw_only=True)
class Label:
    """A column of `sequences` that a task learns from.

    width:   0 for one number a row, else the fixed length of its array
    compute: Future → (N,) or (N, width) int32; None for a label of another table than `sequences`
    """

    name: str
    comment: str
    width: int
    compute: Callable[[Future], NDArray[np.int32]] | None = None


def answers_of(head: str, waited: Any, days: int) -> Any:
    """1 or 0, or -1 where less than so many days are known, for a head of WAITS. numpy or torch, (N, 2) → (N,).

    "survival": 1 for who did not come within them; "incidence" and "uplift": 1 for who did.
    waited: the day on which somebody came, from 1 on, or 0, and of how many whole days it is known at all. Who came on a day that is
    known of a time that is not known whole tells nothing either: else those who came would be counted more often than those who did not.

    >>> answers_of("survival", np.array([[1, 20], [14, 14], [15, 20], [0, 14], [0, 13], [1, 13]]), 14)
    array([ 0,  0,  1,  1, -1, -1])
    """
    day, known = waited[:, 0], waited[:, 1]
    came = (day >= 1) & (day <= days)
    return (1 * (~came if head == "survival" else came) + 1) * (known >= days) - 1
