"""The uses of a prediction, a file each. A use case is added by its file and its line in TASKS; nothing imports one by name.

No torch here: a task names its head and loss, and `models` looks them up, so that Spark can read the labels alone.
"""

from foretaste.errors import SettingsError
from foretaste.tasks.interest import INTEREST
from foretaste.tasks.returns import RETURNS
from foretaste.tasks.task import Task

TASKS: dict[str, Task] = {task.name: task for task in (INTEREST, RETURNS)}


def task_named(name: str) -> Task:
    """The task of that name; SettingsError if there is none."""
    if name not in TASKS:
        raise SettingsError(f"no task is called {name!r}", where="tasks", fix=f"Use one of {', '.join(TASKS)}.")
    return TASKS[name]


__all__ = ["TASKS", "Task", "task_named"]
