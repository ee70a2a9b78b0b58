"""Raw formats → raw records → judged ones. A source is added by its file and its line in SOURCES."""

from foretaste.errors import SourceError
from foretaste.sources import completejourney, files, school
from foretaste.sources.records import Source

SOURCES: dict[str, Source] = {
    "files": files,
    "completejourney": completejourney,
    "school": school,
}


def source_of_kind(kind: str) -> Source:
    """The source of that kind; SourceError if there is none."""
    if kind not in SOURCES:
        raise SourceError(f"no kind of source is called {kind!r}", where="source.kind", fix=f"Use one of {', '.join(SOURCES)}.")
    return SOURCES[kind]


__all__ = ["SOURCES", "Source", "source_of_kind"]
