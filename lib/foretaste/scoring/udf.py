"""The Spark UDF around the scorer: Arrow batches in, Arrow batches out, the model loaded once per Python worker. No Spark import here."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray

from foretaste import registry
from foretaste.contract import FIRST_INDEX, PAD
from foretaste.errors import ModelError
from foretaste.models import Blend, Model
from foretaste.scoring.arrow import targets, to_batch
from foretaste.scoring.filters import Filters, LeftOut
from foretaste.scoring.reasons import Reasons
from foretaste.scoring.scorer import ModelScorer
from foretaste.scoring.shortlists import Shortlists
from foretaste.stored_model import StoredModel

SCORED = "user_id string, targets array<struct<target_id: string, score: double, reasons: array<string>>>, fallback boolean"
LEFT_OUT, ABOUT = "left_out", "campaign_id"
_MODELS_AT_ONCE = 2  # a worker that has gone on to the next task's model need not keep more


@lru_cache(maxsize=_MODELS_AT_ONCE)
def load_scorer(root: str, name: str, version: int, batch_size: int) -> ModelScorer:
    """The scorer of this model in this process, loaded at the first call. Spark's Python workers live on from task to task."""
    torch.set_num_threads(1)  # one worker a core
    return ModelScorer(registry.load(root, name, version), batch_size)


@lru_cache(maxsize=_MODELS_AT_ONCE)
def load_shortlists(path: str, scorer: ModelScorer) -> Shortlists:
    assert scorer.catalogue is not None, "shortlists are made for models that have one"
    return Shortlists.load(path, scorer.catalogue)


def load_network(root: str, name: str, version: int, batch_size: int) -> Model:
    """The network that this model, a blend, is made of."""
    blend = load_scorer(root, name, version, batch_size).network
    assert isinstance(blend, Blend)
    return blend.network


@dataclass(frozen=True, kw_only=True)
class Fallback:
    """What a user without a known item gets.

    indices: (k,) of the most popular items, fewer where filters leave fewer; (0,) for a binary task
    scores:  (k,) their shares of all events in training time; (1,) the share of positives among training rows
    """

    indices: NDArray[np.int64]
    scores: NDArray[np.float64]

    @classmethod
    def of(cls, stored: StoredModel, top_k: int, filters: Filters | None = None) -> "Fallback":
        """Of a model that ranks items, their shares of the events with a known item in training time; of another, its base rate."""
        if stored.head != "items":
            if stored.base_rate is None:
                raise ModelError("the model does not know how often its label is 1", where=stored.where, fix="Train it again.")
            return cls(indices=np.zeros(0, dtype=np.int64), scores=np.array([stored.base_rate]))
        vocabulary = stored.vocabulary()
        items = vocabulary.filter(pc.equal(vocabulary.column("field"), "item")).sort_by("index")  # from the most frequent on
        indices, counts = (items.column(name).to_numpy() for name in ("index", "count"))
        kept = filters.kept(indices) if filters else np.ones(len(indices), dtype=np.bool_)
        return cls(indices=indices[kept].astype(np.int64)[:top_k], scores=(counts / counts.sum())[kept][:top_k])


@dataclass(frozen=True, kw_only=True)
class ByModel:
    """What a UDF that goes by a stored model travels with: where it lies, and how many users it takes at a time."""

    root: str
    name: str
    version: int
    batch_size: int

    @property
    def scorer(self) -> ModelScorer:
        return load_scorer(self.root, self.name, self.version, self.batch_size)


@dataclass(frozen=True, kw_only=True)
class ScoreUsers(ByModel):
    """`rows.mapInArrow(ScoreUsers(…), SCORED)`: from rows with user_id, features and scalars, one row a user, in the same order.

    shortlists: the file of those to score in place of all items
    With `filters`, rows may have a column LEFT_OUT: items that this user is not to be shown. A row with a column ABOUT has that as its one
    target, else, of a task that ranks no items, the task's name.
    """

    top_k: int
    fallback: Fallback
    filters: Filters | None = None
    reasons: Reasons | None = None
    shortlists: str | None = None

    def __call__(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for rows in batches:
            if rows.num_rows:  # an empty partition needs no model
                yield self._scored(self.scorer, rows)

    def _scored(self, scorer: ModelScorer, rows: pa.RecordBatch) -> pa.RecordBatch:
        batch = to_batch(rows)
        nothing_known = scorer.knows_nothing(batch)
        if scorer.stored.head == "items":
            left_out = self._left_out(rows)
            shortlists = load_shortlists(self.shortlists, scorer) if self.shortlists else None
            position, score = scorer.top_k(batch, self.top_k, left_out, shortlists)  # (n, k)
            ids = _item_ids(scorer)
            popular = len(self.fallback.indices)
            position[nothing_known, :popular], position[nothing_known, popular:] = self.fallback.indices, PAD
            score[nothing_known, :popular] = self.fallback.scores
            if left_out is not None:  # a user whose last events are unknown may have bought what is popular
                row, item = left_out.row.numpy(), left_out.item.numpy()
                pair, place = np.nonzero(position[row] == item[:, None])
                position[row[pair], place] = PAD
        else:
            score = scorer.probability(batch)[:, None]  # (n, 1)
            about = rows.column(ABOUT) if ABOUT in rows.schema.names else pa.repeat(scorer.stored.task, len(score))
            ids = pa.concat_arrays([pa.nulls(FIRST_INDEX, pa.string()), about])  # no target has a number below: 0 would be PAD
            position = FIRST_INDEX + np.arange(len(score))[:, None]
            score[nothing_known] = self.fallback.scores
        found = None
        if self.reasons is not None:
            stored = scorer.stored
            medians = {name: stored.medians[name] for name in stored.model.get("facts", ()) if name in stored.medians}
            found = self.reasons.of(scorer, batch, position, _item_names(scorer), stored.features, medians)
            found[nothing_known] = None
        columns = [rows.column("user_id"), targets(ids, position, score, found), pa.array(nothing_known)]
        return pa.RecordBatch.from_arrays(columns, names=["user_id", "targets", "fallback"])

    def _left_out(self, rows: pa.RecordBatch) -> LeftOut | None:
        if self.filters is None:
            return None
        if LEFT_OUT not in rows.schema.names:
            nothing = np.zeros(0, dtype=np.int64)
            return LeftOut.of(self.filters, nothing, nothing)
        column = rows.column(LEFT_OUT)
        row = np.repeat(np.arange(len(column)), pc.fill_null(pc.list_value_length(column), 0).to_numpy(zero_copy_only=False))
        return LeftOut.of(self.filters, row, column.flatten().to_numpy(zero_copy_only=False).astype(np.int64))


@lru_cache(maxsize=_MODELS_AT_ONCE)
def _item_names(scorer: ModelScorer) -> NDArray[np.object_]:
    """(num_items,) the shop's ids by vocabulary index."""
    return scorer.stored.item_ids()


@lru_cache(maxsize=_MODELS_AT_ONCE)
def _item_ids(scorer: ModelScorer) -> pa.Array:
    """The same as Arrow takes them."""
    return pa.array(_item_names(scorer), pa.string())
