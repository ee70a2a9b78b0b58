"""A stored model as a scorer that travels to executors as its name, also for rows whose numbers another vocabulary gave. No Spark here."""

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray
from torch import Tensor

from foretaste import registry
from foretaste.contract import FIRST_INDEX, UNKNOWN, Batch
from foretaste.scoring.scorer import ModelScorer
from foretaste.stored_model import StoredModel


@dataclass(frozen=True, kw_only=True)
class StoredScorer:
    """The version as it was when validation rows had taught it nothing (`judged`), loaded in each process at the first call.

    rows_of: the version of the same model whose vocabulary gave the rows their numbers; its own, where they are the same
    """

    root: str
    name: str
    version: int
    rows_of: int

    def itself(self) -> "StoredScorer":
        return self

    def score(self, batch: Batch[Tensor]) -> Tensor:
        """(B, num_items) in the numbers of the rows; an item that the model's own vocabulary lacks is at -inf. Or (B,) logits."""
        scorer, known = _loaded(self), None if self.rows_of == self.version else _translation(self)
        if known is None:
            return scorer.score(batch)
        features = {name: known[name][values.long()] if name in known else values for name, values in batch.features.items()}
        translated = replace(batch, features=features)
        scores = scorer.score(translated)
        if scores.dim() == 1:
            return scores
        item = known["item"].long()
        theirs = scores[:, item]  # (B, num_items of the rows)
        theirs[:, item < FIRST_INDEX] = -torch.inf
        return theirs


@lru_cache(maxsize=4)
def _loaded(stored: StoredScorer) -> ModelScorer:
    return ModelScorer(registry.load(stored.root, stored.name, stored.version), 1, judged=True)


@lru_cache(maxsize=4)
def _translation(stored: StoredScorer) -> dict[str, Tensor]:
    """Feature → (codes of the rows,) int32: the model's own code for each. Items and categories by name, price buckets by upper edge."""
    rows = registry.load(stored.root, stored.name, stored.rows_of)
    own = registry.load(stored.root, stored.name, stored.version)
    return {field: torch.from_numpy(_codes(rows, own, field)) for field in ("item", "category", "price")}


def _codes(rows: StoredModel, own: StoredModel, field: str) -> NDArray[np.int32]:
    theirs, ours = (_field(model.vocabulary(), field) for model in (rows, own))
    codes = np.full(FIRST_INDEX + len(theirs), UNKNOWN, dtype=np.int32)
    codes[0] = 0
    if field == "price":
        edges = [table.column("upper").to_numpy(zero_copy_only=False).astype(np.float64) for table in (theirs, ours)]
        upper, known = (np.where(np.isnan(edge), np.inf, edge) for edge in edges)  # the last bucket has no edge
        codes[FIRST_INDEX:] = FIRST_INDEX + np.minimum(np.searchsorted(known, upper), max(0, len(known) - 1)) if len(known) else UNKNOWN
    else:
        place = pc.index_in(theirs.column("value"), value_set=ours.column("value").combine_chunks())
        codes[FIRST_INDEX:] = pc.fill_null(place, UNKNOWN - FIRST_INDEX).to_numpy() + FIRST_INDEX
    return codes


def _field(vocabulary: pa.Table, field: str) -> pa.Table:
    return vocabulary.filter(pc.equal(vocabulary.column("field"), field)).sort_by("index")
