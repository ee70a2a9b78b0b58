"""popularity and recent_popularity: the same items for everybody, those with the most events first."""

import torch
from torch import Tensor

from foretaste.contract import Batch, Sizes
from foretaste.models.counted import Counted, Options


class Popularity(Counted):
    """All training time counts alike."""

    def evidence(self, batch: Batch[Tensor]) -> Tensor:
        return self.shares().repeat(len(batch.length), 1)


class RecentPopularity(Counted):
    """Only the last days of training time count; ties are broken by all of it. Table: recent (I,), events of those days."""

    def __init__(self, *, sizes: Sizes, options: Options) -> None:
        super().__init__(sizes=sizes, options=options, tables={"recent": torch.float32})

    def evidence(self, batch: Batch[Tensor]) -> Tensor:
        recent = self._table("recent") + self.shares()  # below 1: it orders what ties, whatever the smoothing
        return recent.repeat(len(batch.length), 1)
