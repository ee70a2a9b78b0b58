"""churn: who will not buy (or whatever `sequences.activity` says) within the next days? And with it: when will the others be back?"""

import numpy as np
from numpy.typing import NDArray

from foretaste.contract import Future, Label
from foretaste.tasks.task import Task, Worth

_DAY = 24 * 3_600_000_000


def next_activity(future: Future) -> NDArray[np.int32]:
    """(N,): the day after as_of, from 1 on, of the first activity in the row's split; -d if there is none in the d whole days it has."""
    active = np.append(np.flatnonzero(future.is_active), len(future.time))
    first = active[np.searchsorted(active, future.start)]
    came = first < future.reach
    passed = np.append(future.time, 0)[np.where(came, first, len(future.time))] - future.as_of
    return np.where(came, -(-passed // _DAY), -((future.known - future.as_of) // _DAY)).astype(np.int32)


CHURN = Task(
    name="churn",
    question="Will this user stay away for so many days?",
    head="survival",
    label=Label(
        name="next_activity",
        comment="day of the next activity in this split, from 1 on; -d if none came within the d whole days that it has left",
        width=0,
        compute=next_activity,
    ),
    train_cut="calendar",
    metrics="binary",
    worth=Worth(
        metric="found@10%",
        times=100,
        words="of 100 users who will stay away, found among the tenth of users with the highest risk",
        against=("recency", "bg_nbd", "logistic_rfm"),
    ),
)
