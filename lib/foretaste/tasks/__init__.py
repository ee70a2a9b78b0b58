"""The uses of a prediction, a file each. A use case is added by its file and its line in TASKS; nothing imports one by name.

No torch here: a task names its head and loss, and `models` looks them up, so that Spark can read the labels alone.
"""

from foretaste.tasks.behaviour import BEHAVIOUR
from foretaste.tasks.campaign import CAMPAIGN
from foretaste.tasks.churn import CHURN
from foretaste.tasks.demand import DEMAND
from foretaste.tasks.interest import INTEREST
from foretaste.tasks.latents import LATENTS
from foretaste.tasks.new_item import NEW_ITEM
from foretaste.tasks.returns import RETURNS
from foretaste.tasks.task import Task, Worth
from foretaste.tasks.uplift import UPLIFT

TASKS: dict[str, Task] = {task.name: task for task in (INTEREST, CAMPAIGN, UPLIFT, CHURN, NEW_ITEM, DEMAND, RETURNS, LATENTS, BEHAVIOUR)}


__all__ = ["TASKS", "Task", "Worth"]
