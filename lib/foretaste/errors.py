"""The one error that people see: what is wrong, where, and how to mend it."""


class ForetasteError(Exception):
    """Ends a job in one line: `what (where). fix`.

    what: the fault, as a sentence without its full stop.
    where: the file, table, key or rank it was found at; never a user id or a secret.
    fix: what the reader should do, as an imperative sentence.
    """

    def __init__(self, what: str, *, where: str = "", fix: str = "") -> None:
        self.what, self.where, self.fix = what, where, fix
        super().__init__(what, where, fix)

    def __str__(self) -> str:
        place = f" ({self.where})" if self.where else ""
        return " ".join(part for part in (f"{self.what}{place}.", self.fix) if part)


class SettingsError(ForetasteError):
    """An unknown key or an impossible value in a YAML file or an override."""


class SourceError(ForetasteError):
    """A raw file that is missing, empty or not in the shape that its mapping says."""


class TableError(ForetasteError):
    """A table that is missing, unreachable, or not as its definition says."""


class QualityError(ForetasteError):
    """Data that are further from what they usually are than the settings let pass."""


class FeedError(ForetasteError):
    """A pinned snapshot that cannot be read whole, or not by that many ranks."""


class TrainingError(ForetasteError):
    """A fit that cannot start, diverged, or lost a rank once too often."""


class DivergedError(TrainingError):
    """A fit whose loss or scores are no numbers: these settings do not learn."""


class ModelError(ForetasteError):
    """A stored model that is missing, cut short, or made for other data."""
