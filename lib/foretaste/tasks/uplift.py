"""uplift: how much likelier is it that this user buys within so many days because a campaign reaches the user?"""

import numpy as np
from numpy.typing import NDArray

from foretaste.contract import Future, Label
from foretaste.tasks.churn import next_activity
from foretaste.tasks.task import Task, Worth


def trial(future: Future) -> NDArray[np.int32]:
    """(N, 3): day of the next activity and the days that are known, as next_activity has them, and whether the campaign reached the user.

    Zeros in rows that are of no trial.
    """
    told = np.column_stack([next_activity(future), future.reached])
    return np.where(future.reached[:, None] < 0, 0, told).astype(np.int32)


UPLIFT = Task(
    name="uplift",
    question="How much likelier is it that this user buys within so many days because this campaign reaches the user?",
    head="uplift",
    label=Label(
        name="trial",
        comment="in trials: day of the next activity, from 1 on, 0 if none; of how many whole days that is known; whether it was reached",
        width=3,
        compute=trial,
    ),
    train_cut="trial",
    metrics="uplift",
    baselines=("responders", "two_regressions"),
    worth=Worth(
        metric="uplift@30%",
        times=1000,
        words="more users who come because they are reached, of 1,000 of the best 30 %",
        against=("random", "responders", "two_regressions"),
    ),
)
