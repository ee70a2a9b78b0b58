"""new_item: which users will want an item that nobody has bought yet, by what it is? For whoever launches it."""

from foretaste.tasks.interest import INTEREST
from foretaste.tasks.task import Task, Worth

NEW_ITEM = Task(
    name="new_item",
    question="Which users will buy this item, which training never saw, within so many days of its launch?",
    head="items",
    label=INTEREST.label,  # it learns what known items are bought next, from what they are
    train_cut="window",
    metrics="launches",
    needs_content=True,
    baselines=("category_affinity", "most_active", "random"),
    worth=Worth(
        metric="buyers@1%",
        times=100,
        words="of 100 buyers of a new item, found among the 1 % of users that it is offered to before its launch",
        against=("category_affinity", "most_active", "random"),
        digits=1,
    ),
)
