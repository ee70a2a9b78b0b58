"""campaign: will this user answer a campaign, one that ran or one that is yet to start, within so many days?"""

import numpy as np
from numpy.typing import NDArray

from foretaste.contract import DAY, Future, Label
from foretaste.tasks.task import Task, Worth

_MOST_DAYS = 9999  # of a campaign that is over, whatever follows is known: it can be answered no more


def answer_day(future: Future) -> NDArray[np.int32]:
    """(N, 2): as contract.answers_of has them: the day of the first answer to the row's campaign, and of how many days it is known."""
    came = future.answer < future.known
    day = np.where(came, np.maximum(1, -(-(future.answer - future.as_of) // DAY)), 0)
    known = np.minimum((future.asked_until - future.as_of) // DAY, _MOST_DAYS)
    waited: NDArray[np.int32] = np.stack([day, known], axis=1).astype(np.int32)
    return waited


CAMPAIGN = Task(
    name="campaign",
    question="Will this user answer this campaign within so many days?",
    head="incidence",
    label=Label(
        name="answer_day",
        comment="at exposures: day of the first answer to the campaign, from 1 on, 0 if none; and of how many whole days that is known",
        width=2,
        compute=answer_day,
    ),
    train_cut="exposure",
    metrics="binary",
    baselines=("coupon_users", "logistic_facts"),
    worth=Worth(
        metric="found@30%",
        times=100,
        words="of 100 users who would answer, reached by asking the best 30 % of those who were asked",
        against=("majority", "coupon_users", "logistic_facts"),
    ),
)
