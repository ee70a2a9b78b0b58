"""One version of a model, as registry.py keeps it, and what can be read of it. No Spark and no MLflow: executors load models by it."""

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import safetensors.torch
from numpy.typing import NDArray

from foretaste.contract import SCALARS, Sizes
from foretaste.errors import ModelError
from foretaste.models import Blend, Counted, Model, restored

WEIGHTS, JUDGED, VOCABULARY, ABOUT = "weights.safetensors", "judged.safetensors", "vocabulary.parquet", "model.json"
RETRAIN = "Train it again with jobs/train.py, or name an older version."


@dataclass(frozen=True, kw_only=True)
class StoredModel:
    """One version of a model.

    model:       ModelSettings as a dict: the network's name and its options
    calibration: slope and intercept that turn a binary head's logit into a log-odds; None for other heads
    metrics:     of the best epoch, on validation rows; history: one entry an epoch
    tables:      table name → the version it learnt from
    sha256:      of the weights; judged_sha256: of those that were judged, where they are others
    folder:      where it lies
    base_rate:   the share of positives among the training rows of a head that ranks no items: the answer for a user without history
    launch:      of a model of new items, the line of scoring/launches.py, and the share of users who buy one
    medians:     of each amount among contract.FACTS, over the same rows; {} for a model that ranks items
    """

    name: str
    version: int
    task: str
    head: str
    label: str
    model: Mapping[str, Any]
    sizes: Sizes
    calibration: Mapping[str, float] | None
    metrics: Mapping[str, float]
    history: Sequence[Mapping[str, float]]
    tables: Mapping[str, int]
    seed: int
    settings: Mapping[str, Any]
    code_version: str
    sha256: str
    folder: str
    base_rate: float | None = None
    medians: Mapping[str, float] = dataclasses.field(default_factory=dict)
    launch: Mapping[str, float] | None = None
    judged_sha256: str | None = None

    @property
    def where(self) -> str:
        return f"{self.name} version {self.version}, {self.folder}"

    @property
    def features(self) -> tuple[str, ...]:
        """Those of a row that it reads, also for the latent numbers of another model."""
        return tuple(dict.fromkeys((*self.model["features"], *(self.model.get("latents") or {"features": ()})["features"])))

    @property
    def columns(self) -> Mapping[str, bool]:
        """All columns of a row that it reads, and whether each is a list."""
        lists = dict.fromkeys(("item", *self.features), True)
        return {**dict.fromkeys((*SCALARS, *self.model.get("facts", ())), False), **lists}

    @property
    def judged_weights(self) -> Path:
        """The file of the weights from before it learnt from validation time too, where it did."""
        return Path(self.folder) / (JUDGED if self.judged_sha256 else WEIGHTS)

    def network(self, *, judged: bool = False) -> Model | Counted | Blend:
        """The network with its weights, ready to score on the CPU; ModelError where they are cut short or of another vocabulary.

        judged: with those from before it learnt from validation time too
        """
        path = self.judged_weights if judged else Path(self.folder) / WEIGHTS
        try:
            data = path.read_bytes()
        except OSError as error:
            raise ModelError(f"the weights cannot be read: {error.strerror}", where=str(path), fix=RETRAIN) from error
        if hashlib.sha256(data).hexdigest() != (self.judged_sha256 if path.name == JUDGED else self.sha256):
            raise ModelError("the weights are cut short or were changed", where=str(path), fix=RETRAIN)
        network = restored(self.model, head=self.head, label=self.label, sizes=self.sizes)
        try:
            network.load_state_dict(safetensors.torch.load(data))
        except (RuntimeError, safetensors.SafetensorError) as error:
            raise ModelError(
                "the weights are of another network or vocabulary than model.json says", where=self.where, fix=RETRAIN
            ) from error
        return network.eval().requires_grad_(False)

    def item_ids(self) -> NDArray[np.object_]:
        """(num_items,) the shop's id of each item by its index; None for PAD and UNKNOWN."""
        items = self.vocabulary(columns=["value", "index"], filters=[("field", "==", "item")])
        index = items.column("index").to_numpy()
        if len(index) and int(index.max()) >= self.sizes.num_items:
            raise ModelError("the vocabulary beside the weights is of another model", where=self.where, fix=RETRAIN)
        ids = np.full(self.sizes.num_items, None, dtype=object)
        ids[index] = items.column("value").to_numpy()
        return ids

    def vocabulary(self, **reading: Any) -> pa.Table:
        """The vocabulary table as it was when the model learnt; `reading` goes to pyarrow's read_table."""
        path = Path(self.folder) / VOCABULARY
        try:
            return pq.read_table(path, **reading)
        except (OSError, pa.ArrowException) as error:
            raise ModelError("the model's vocabulary cannot be read", where=str(path), fix=RETRAIN) from error
