"""returns: will this user come back and do something within the horizon?"""

import numpy as np
from numpy.typing import NDArray

from foretaste.contract import Future, Label
from foretaste.tasks.task import Task


def returns(future: Future) -> NDArray[np.int32]:
    """(N,): 1 if any event lies in the horizon, else 0. Where a shop only records purchases, this is "will buy"."""
    return (future.stop > future.start).astype(np.int32)


RETURNS = Task(
    name="returns",
    question="Will this user come back within the horizon?",
    head="binary",
    label=Label(name="returns", comment="1 if the user acted within the horizon, else 0", width=0, compute=returns),
    train_cut="calendar",
    metrics="binary",
)
