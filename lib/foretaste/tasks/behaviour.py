"""behaviour: rows that a user could have left, for training where there is little and for showing where the real ones must not be."""

from foretaste.tasks.interest import INTEREST
from foretaste.tasks.task import Task

BEHAVIOUR = Task(
    name="behaviour",
    question="What could a user's history look like?",
    head="items",
    label=INTEREST.label,  # what writes rows knows what comes next, and is ranked by that, too
    train_cut="window",
    metrics="ranking",
    writes_sequences=True,
)
