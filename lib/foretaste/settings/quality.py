"""From where on data are so odd that somebody should look, or that nothing more should be made of them."""

from pydantic import Field, model_validator

from foretaste.settings.fields import Strict


class Limit(Strict):
    """A share from 0 to 1: above `warn` the job says so, above `stop` it ends with an error; neither is looked at unless given."""

    warn: float | None = Field(default=None, ge=0, le=1)
    stop: float | None = Field(default=None, ge=0, le=1)

    @model_validator(mode="after")
    def _warns_first(self) -> "Limit":
        if self.warn is not None and self.stop is not None and self.stop < self.warn:
            raise ValueError("stop is below warn, so it would never warn")
        return self

    @property
    def is_given(self) -> bool:
        return self.warn is not None or self.stop is not None


class QualitySettings(Strict):
    """quarantined: of an ingest's records, those that are no events; stopped before anything is written
    volume: how far the last 24 hours' events are from as many a week before: 0.5 where they are half of them, or twice as many
    unknown_items: of the last seven days' events with an item, those whose item the vocabulary does not know
    """

    quarantined: Limit = Limit(warn=0.05)
    volume: Limit = Limit()
    unknown_items: Limit = Limit()
