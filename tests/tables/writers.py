"""Several that work on one warehouse at the same time."""

import threading
from collections.abc import Callable

from foretaste.settings import WarehouseSettings
from foretaste.tables import Warehouse


def another(warehouse: Warehouse) -> Warehouse:
    """The same warehouse as another job has it: with a session of its own."""
    return Warehouse(warehouse.spark.newSession(), WarehouseSettings(path=warehouse.path))


def at_once(*works: Callable[[], object]) -> None:
    """Runs them side by side, and raises what one of them raises."""
    errors: list[BaseException] = []

    def run(work: Callable[[], object]) -> None:
        try:
            work()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
