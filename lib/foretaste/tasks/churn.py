"""churn: who will not buy (or whatever `sequences.activity` says) within the next days? And with it: when will the others be back?"""

import numpy as np
from numpy.typing import NDArray

from foretaste.contract import DAY, Future, Label
from foretaste.tasks.task import Task, Worth


def next_activity(future: Future) -> NDArray[np.int32]:
    """(N, 2): as contract.answers_of has them: the day of the first activity, and of how many whole days it is known."""
    active = np.append(np.flatnonzero(future.is_active), len(future.time))
    first = active[np.searchsorted(active, future.start)]
    came = first < future.reach
    passed = np.append(future.time, 0)[np.where(came, first, len(future.time))] - future.as_of
    day = np.where(came, -(-passed // DAY), 0)
    waited: NDArray[np.int32] = np.stack([day, (future.known - future.as_of) // DAY], axis=1).astype(np.int32)
    return waited


CHURN = Task(
    name="churn",
    question="Will this user stay away for so many days?",
    head="survival",
    label=Label(
        name="next_activity",
        comment="day of the next activity, from 1 on, 0 if there is none; and of how many whole days that is known in this split",
        width=2,
        compute=next_activity,
    ),
    train_cut="calendar",
    metrics="binary",
    baselines=("recency", "logistic_rfm", "bg_nbd"),
    worth=Worth(
        metric="found@10%",
        times=100,
        words="of 100 users who will stay away, found among the tenth of users with the highest risk",
        against=("recency", "bg_nbd", "logistic_rfm"),
    ),
)
