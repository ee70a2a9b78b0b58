"""sessions, one user after another in Arrow batches → whole users' events as integers (windows.Events). Executors run this; no Spark.

A batch's strings become integers at once, and nothing else is kept of a user whose end has not been seen: one may have millions of events.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pandas.util import hash_array

from foretaste.contract import EVENT_CODES, FIRST_INDEX, PAD, UNKNOWN, gap_bucket, local_hours
from foretaste.tables.contacts import ANSWER, CONTROL, EXPOSURE, Contacts
from foretaste.tables.windows import OPENS, Events, Int32, Int64

COLUMNS = ("user_id", "event_time", "item_id", "event_type", "price", "category", "campaign_id")  # of a session
_ONLY_FOR = {"price": ("price",), "category": ("category", "bought_category")}  # the features and facts that need them; no others do
_TARGET, _TIME = "target", "time"
BLOCK_EVENTS = 1 << 18  # a look-up builds a hash table of the vocabulary: once for so many events


@dataclass(frozen=True, kw_only=True)
class Codes:
    """What turns events into integers.

    items, categories: the known ones, the first has FIRST_INDEX; edges: rising upper edges of price buckets, without the last bucket's
    event_types: those that enter histories; activity: those of them that show that a user is still there
    zone: what contract.local_hours takes
    campaigns: the ids of those that contacts may belong to; answers: the event types that answer one, beside "exposure", which asks, and
    "control", which says that the user was left out of it
    """

    items: pa.Array
    categories: pa.Array
    edges: NDArray[np.float64]
    event_types: tuple[str, ...]
    activity: tuple[str, ...]
    zone: tuple[Int64, Int64]
    campaigns: pa.Array = field(default_factory=lambda: pa.array([], pa.string()))
    answers: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class _Runs:
    """A run of values for each of U users. offset: (U + 1,); columns: name → (N,)"""

    offset: Int64
    columns: dict[str, NDArray[Any]]

    def only(self, start: int, stop: int) -> "_Runs":
        """Those of the users in [start, stop)."""
        first, last = self.offset[start], self.offset[stop]
        return _Runs(
            offset=self.offset[start : stop + 1] - first, columns={name: column[first:last] for name, column in self.columns.items()}
        )

    @classmethod
    def joined(cls, parts: Sequence["_Runs"], skipped: Sequence[int]) -> "_Runs":
        """One after the other; `skipped` is 1 where a part's first user is the last one of the part before."""
        begin = np.cumsum([0, *(part.offset[-1] for part in parts)])
        offsets = [part.offset[skip:-1] + start for part, skip, start in zip(parts, skipped, begin, strict=False)]
        columns = {name: np.concatenate([part.columns[name] for part in parts]) for name in parts[0].columns}
        return cls(offset=np.concatenate([*offsets, begin[-1:]]), columns=columns)


@dataclass(frozen=True, kw_only=True)
class _Part:
    """Some consecutive events of U users; the first and the last user may have more elsewhere.

    users: (U,) ids; began: (U,) the time of a user's first event here, of any type; events: of the types that enter, with their time
    contacts: those with the campaigns that are known
    """

    users: pa.Array
    began: Int64
    events: _Runs
    contacts: _Runs

    def only(self, start: int, stop: int) -> "_Part":
        """The users in [start, stop)."""
        return _Part(
            users=self.users[start:stop],
            began=self.began[start:stop],
            events=self.events.only(start, stop),
            contacts=self.contacts.only(start, stop),
        )


def columns_for(read: Collection[str], campaigns: pa.Array) -> tuple[str, ...]:
    """Those of COLUMNS that these features and facts come from. `histories` takes others for nulls."""
    spared = {name for name, needing in _ONLY_FOR.items() if not any(feature in read for feature in needing)}
    return tuple(name for name in COLUMNS if name not in spared and (name != "campaign_id" or len(campaigns)))


def histories(batches: Iterable[pa.RecordBatch], codes: Codes) -> Iterator[tuple[pa.Array, Events, Int64]]:
    """Blocks of whole users: their ids, their events of the types that enter, and the time of each one's first event of any type."""
    held: list[_Part] = []  # of the last user seen, and nobody else
    for table in _tables(batches):
        part = _part(table, codes)
        if held and len(part.users) == 1 and part.users[0] == held[-1].users[0]:
            held.append(part)
            continue
        whole = _joined([*held, part])
        last = len(whole.users) - 1
        if last > 0:
            yield _finished(whole.only(0, last), codes)
        held = [whole.only(last, last + 1)]
    if held:
        yield _finished(_joined(held), codes)


def _tables(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.Table]:
    """The same rows, in tables of BLOCK_EVENTS events or a little more."""
    pending: list[pa.RecordBatch] = []
    num_events = 0
    for batch in batches:
        if batch.num_rows == 0:
            continue
        pending.append(batch)
        num_events += len(batch.column("event_time").flatten())
        if num_events >= BLOCK_EVENTS:
            yield pa.Table.from_batches(pending)
            pending, num_events = [], 0
    if pending:
        yield pa.Table.from_batches(pending)


def _part(sessions: pa.Table, codes: Codes) -> _Part:
    column = {name: sessions.column(name).combine_chunks() for name in COLUMNS if name in sessions.column_names}
    users = column.pop("user_id")
    num_events = np.diff(column["event_time"].offsets.to_numpy())
    flat = {name: lists.flatten() for name, lists in column.items()}
    all_times = flat["event_time"].cast(pa.int64()).to_numpy(zero_copy_only=False)

    opens_user = np.append(True, np.asarray(pc.not_equal(users[1:], users[:-1])))
    first_session = np.flatnonzero(opens_user)
    began = all_times[(np.cumsum(num_events) - num_events)[first_session]]
    session = np.repeat(np.arange(len(users)), num_events)
    contacts = _contacts(flat, all_times, session, first_session, codes)
    enters = pc.is_in(flat["event_type"], value_set=pa.array(codes.event_types, pa.string()))
    if not pc.all(enters).as_py():
        flat = {name: values.filter(enters) for name, values in flat.items()}
        session, all_times = session[np.asarray(enters)], all_times[np.asarray(enters)]

    offset = np.append(np.searchsorted(session, first_session), len(session))
    item = _index(flat["item_id"], codes.items)
    columns = {
        _TIME: all_times,
        "item": item,
        _TARGET: _target(flat["item_id"], item),
        "event": _index(flat["event_type"], pa.array(list(EVENT_CODES), pa.string())) - np.int32(FIRST_INDEX - 1),
        "opens_session": np.where(np.diff(session, prepend=-1) != 0, OPENS, 1).astype(np.int32),
        "price": _bucket(flat["price"], codes.edges) if "price" in flat else np.full_like(item, UNKNOWN),
        "category": _index(flat["category"], codes.categories) if "category" in flat else np.full_like(item, UNKNOWN),
    }
    events = _Runs(offset=offset, columns=columns)
    return _Part(users=users.take(pa.array(first_session)), began=began, events=events, contacts=contacts)


def _contacts(flat: Mapping[str, pa.Array], time: Int64, session: Int64, first_session: Int64, codes: Codes) -> _Runs:
    """Exposures to known campaigns, answers to them, and who was left out of them."""
    types = {**dict.fromkeys(codes.answers, ANSWER), "exposure": EXPOSURE, "control": CONTROL}
    place = _index(flat["event_type"], pa.array(list(types), pa.string())) - FIRST_INDEX  # negative where it is none of them
    kind = np.append(np.array(list(types.values()), dtype=np.int8), -1)[place]
    ids = flat.get("campaign_id", pa.nulls(len(time), pa.string()))
    campaign = _index(ids, codes.campaigns).astype(np.int64) - FIRST_INDEX
    chosen = np.flatnonzero((campaign >= 0) & (place >= 0))
    offset = np.append(np.searchsorted(session[chosen], first_session), len(chosen))
    return _Runs(offset=offset, columns={_TIME: time[chosen], "campaign": campaign[chosen], "kind": kind[chosen]})


def _index(values: pa.Array, known: pa.Array) -> Int32:
    """(N,): the vocabulary index of each value; UNKNOWN for one that is not known, or null."""
    place = pc.fill_null(pc.index_in(values, value_set=known, skip_nulls=True), UNKNOWN - FIRST_INDEX)
    index: Int32 = place.to_numpy(zero_copy_only=False).astype(np.int32) + np.int32(FIRST_INDEX)
    return index


def _target(ids: pa.Array, index: Int32) -> Int32:
    """(N,): the items as contract.Future names them. A hash tells those apart that are not in the vocabulary."""
    given = np.asarray(pc.is_valid(ids))
    target = np.where(given, index, PAD).astype(np.int32)
    unknown = given & (index == UNKNOWN)
    hashes = hash_array(ids.filter(pa.array(unknown)).to_numpy(zero_copy_only=False))
    target[unknown] = -1 - (hashes >> np.uint64(33)).astype(np.int32)  # 31 bits
    return target


def _bucket(prices: pa.Array, edges: NDArray[np.float64]) -> Int32:
    """(N,): the first bucket whose upper edge is not below the price; UNKNOWN without a price."""
    price = prices.to_numpy(zero_copy_only=False).astype(np.float64)  # null becomes NaN
    return np.where(np.isnan(price), UNKNOWN, np.searchsorted(edges, price) + FIRST_INDEX).astype(np.int32)


def _joined(parts: list[_Part]) -> _Part:
    """One part, in which a user that two neighbours share is one."""
    if len(parts) == 1:
        return parts[0]
    opens = [True, *(left.users[-1] != right.users[0] for left, right in pairwise(parts))]
    skipped = [0 if new else 1 for new in opens]
    return _Part(
        users=pa.concat_arrays([part.users[skip:] for part, skip in zip(parts, skipped, strict=True)]),
        began=np.concatenate([part.began[skip:] for part, skip in zip(parts, skipped, strict=True)]),
        events=_Runs.joined([part.events for part in parts], skipped),
        contacts=_Runs.joined([part.contacts for part in parts], skipped),
    )


def _finished(part: _Part, codes: Codes) -> tuple[pa.Array, Events, Int64]:
    """Whole users, with the features that an event has by its neighbour and by its place in the week."""
    columns, offset = dict(part.events.columns), part.events.offset
    target, time = columns.pop(_TARGET), columns.pop(_TIME)
    seconds = np.diff(time, prepend=0) / 1e6
    seconds[offset[:-1][np.diff(offset) > 0]] = np.nan  # nothing was before a user's first event
    hour, weekday = local_hours(time, codes.zone)
    features = {
        **columns,
        "gap": gap_bucket(seconds),
        "hour": (hour + 1).astype(np.int32),
        "weekday": (weekday + 1).astype(np.int32),
    }
    events = Events(
        offset=offset,
        owner=np.arange(len(part.users)),
        time=time,
        features=features,
        target=target,
        is_active=np.isin(features["event"], [EVENT_CODES[name] for name in codes.activity]),
        contacts=Contacts(offset=part.contacts.offset, **part.contacts.columns) if len(codes.campaigns) else None,
    )
    return part.users, events, part.began
