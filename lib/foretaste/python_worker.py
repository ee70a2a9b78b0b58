"""Spark's Python workers: what they do between two tasks, without going over all that they have imported.

After each task a worker collects garbage, and walks over every object of torch, pandas and pyarrow for it; before each it has its importers
look anew at what they import from, and Python before 3.12 reads the directories of Spark's zips and JAR again for each package in them
(https://github.com/python/cpython/issues/103200). What was imported is no garbage, and does not change; a short task takes less time than
both (docs/speed.md). A task's own garbage is collected as ever.
"""

import functools
import gc
import os
import sys
from collections.abc import Mapping
from zipimport import zipimporter

_num_modules = 0


def is_one() -> bool:
    """Whether this process is one."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return spec is not None and spec.name == "pyspark.daemon"


def keep_imports_out() -> None:
    """From the next collection of all garbage on, what is imported is passed over by later ones and by what looks at importers anew."""
    gc.callbacks.append(_after)


def _after(phase: str, info: Mapping[str, int]) -> None:
    global _num_modules
    if phase != "stop" or info["generation"] != 2:
        return
    if len(sys.modules) > _num_modules:  # not each time, since a cycle of what is frozen is never freed
        gc.freeze()
        _num_modules = len(sys.modules)
    for path, finder in list(sys.path_importer_cache.items()):
        if isinstance(finder, zipimporter) and finder.archive in _archives():
            del sys.path_importer_cache[path]  # one that is asked for again is made from the directory that Python remembers


@functools.cache
def _archives() -> frozenset[str]:
    """The zips that do not change while a worker runs: what Spark started it with, and ours."""
    ours = sys.modules["foretaste"].__loader__
    zips = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    return frozenset([*zips, ours.archive] if isinstance(ours, zipimporter) else zips)
