"""What a person wants to see of a deployment at a glance: one HTML page, with its pictures inside."""

import json
import os
from pathlib import Path

from foretaste.errors import TableError
from foretaste.report.gather import gathered
from foretaste.report.page import rendered
from foretaste.settings import Settings
from foretaste.steps.report import StepReport
from foretaste.tables import Warehouse


def report(warehouse: Warehouse, settings: Settings) -> StepReport:
    """Writes the page, and beside it the figures that the next report compares itself with. A reader sees the old page or the new one."""
    page = settings.report.page(warehouse.path)
    if "://" in page:
        raise TableError("a page is written into a folder, not to a URL", where=page, fix="Set report.path to a file on a mounted folder.")
    path, figures = Path(page), Path(page).with_suffix(".json")
    before = json.loads(figures.read_text(encoding="utf-8")) if figures.is_file() else None
    facts = gathered(warehouse, settings, before)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for place, text in ((path, rendered(facts)), (figures, json.dumps(facts.figures, indent=2))):
            fresh = place.with_name(f".{place.name}-{os.getpid()}")
            fresh.write_text(text, encoding="utf-8")
            fresh.replace(place)
    except OSError as error:
        raise TableError(
            f"the page cannot be written: {error.strerror}", where=str(path), fix="Make room there, or set report.path."
        ) from error
    notes = [f"{path}, {path.stat().st_size / 1e6:.1f} MB"]
    if facts.lacking:
        notes.append(f"left out, since nothing is there yet: {', '.join(facts.lacking)}")
    return StepReport(step="report", read=facts.rows, written={"page": 1}, notes=tuple(notes))
