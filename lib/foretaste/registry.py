"""Stored models: `<warehouse>/models/<name>/<version>/` with weights, vocabulary and all that is known of how they came about.

    weights.safetensors   the network's tensors, no pickle
    judged.safetensors    the same before it learnt from validation time too, where it did: what it can be judged by on validation rows
    vocabulary.parquet    the vocabulary table as it was: which integer stands for which item, category and price
    model.json            everything else

`<warehouse>/models/<name>/champion` holds the number of the version that serves (steps/champion.py).

A version is written to a temporary folder and renamed: a reader sees all of it or nothing. Reading needs no Spark and no MLflow.

tracking.py tells MLflow of each.
"""

import dataclasses
import functools
import hashlib
import json
import shutil
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import safetensors.torch
from numpy.typing import NDArray

import foretaste
from foretaste import tracking
from foretaste.contract import SCALARS, Sizes
from foretaste.errors import ModelError
from foretaste.models import Blend, Counted, Model, restored

if TYPE_CHECKING:  # the scorer loads models without Spark
    from pyspark.sql import DataFrame

    from foretaste.tables import Warehouse

WEIGHTS, JUDGED, VOCABULARY, ABOUT = "weights.safetensors", "judged.safetensors", "vocabulary.parquet", "model.json"
CHAMPION = "champion"


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
            raise ModelError(f"the weights cannot be read: {error.strerror}", where=str(path), fix=_RETRAIN) from error
        if hashlib.sha256(data).hexdigest() != (self.judged_sha256 if path.name == JUDGED else self.sha256):
            raise ModelError("the weights are cut short or were changed", where=str(path), fix=_RETRAIN)
        network = restored(self.model, head=self.head, label=self.label, sizes=self.sizes)
        try:
            network.load_state_dict(safetensors.torch.load(data))
        except (RuntimeError, safetensors.SafetensorError) as error:
            raise ModelError(
                "the weights are of another network or vocabulary than model.json says", where=self.where, fix=_RETRAIN
            ) from error
        return network.eval().requires_grad_(False)

    def item_ids(self) -> NDArray[np.object_]:
        """(num_items,) the shop's id of each item by its index; None for PAD and UNKNOWN."""
        items = self.vocabulary(columns=["value", "index"], filters=[("field", "==", "item")])
        index = items.column("index").to_numpy()
        if len(index) and int(index.max()) >= self.sizes.num_items:
            raise ModelError("the vocabulary beside the weights is of another model", where=self.where, fix=_RETRAIN)
        ids = np.full(self.sizes.num_items, None, dtype=object)
        ids[index] = items.column("value").to_numpy()
        return ids

    def vocabulary(self, **reading: Any) -> pa.Table:
        """The vocabulary table as it was when the model learnt; `reading` goes to pyarrow's read_table."""
        path = Path(self.folder) / VOCABULARY
        try:
            return pq.read_table(path, **reading)
        except (OSError, pa.ArrowException) as error:
            raise ModelError("the model's vocabulary cannot be read", where=str(path), fix=_RETRAIN) from error


_RETRAIN = "Train it again with jobs/train.py, or name an older version."


def save(
    warehouse: "Warehouse",
    *,
    name: str,
    task: str,
    head: str,
    label: str,
    model: Mapping[str, Any],
    sizes: Sizes,
    weights: Path,
    vocabulary: "DataFrame",
    calibration: Mapping[str, float] | None,
    metrics: Mapping[str, float],
    history: Sequence[Mapping[str, float]],
    tables: Mapping[str, int],
    seed: int,
    settings: Mapping[str, Any],
    base_rate: float | None = None,
    medians: Mapping[str, float] | None = None,
    launch: Mapping[str, float] | None = None,
    judged: Path | None = None,
) -> StoredModel:
    """Stores it as the next version. `vocabulary` is no larger than the model itself, so it goes through the driver, as Arrow.

    judged: the weights from before validation time was learnt from, where the metrics are theirs
    """
    parent = _models(warehouse.path) / name
    building = parent / f".{uuid.uuid4().hex}"
    data = weights.read_bytes()
    try:
        building.mkdir(parents=True)
        (building / WEIGHTS).write_bytes(data)
        before = judged.read_bytes() if judged else None
        if before is not None:
            (building / JUDGED).write_bytes(before)
        rows = vocabulary.toPandas()
        pq.write_table(pa.Table.from_pandas(rows, preserve_index=False), building / VOCABULARY)
        stored = StoredModel(
            name=name,
            version=0,
            task=task,
            head=head,
            label=label,
            model=dict(model),
            sizes=sizes,
            calibration=calibration,
            metrics=metrics,
            history=tuple(history),
            tables=tables,
            seed=seed,
            settings=settings,
            code_version=code_version(),
            sha256=hashlib.sha256(data).hexdigest(),
            folder="",
            base_rate=base_rate,
            medians=medians or {},
            launch=launch,
            judged_sha256=None if before is None else hashlib.sha256(before).hexdigest(),
        )
        stored = _publish(stored, building, parent)
    except OSError as error:
        shutil.rmtree(building, ignore_errors=True)
        raise ModelError(
            f"the model cannot be stored: {error.strerror}", where=str(parent), fix="Make room there, or set warehouse.path."
        ) from error
    tracking.log_version(warehouse, stored)
    return stored


def load(root: str, name: str, version: int | None = None) -> StoredModel:
    """The model in the warehouse at `root`: that version, or the champion; ModelError where there is none or it is not whole."""
    parent = _models(root) / name
    known = versions(root, name)
    if not known:
        raise ModelError(f"there is no model {name!r} yet", where=str(parent), fix="Train it first with jobs/train.py.")
    if version is not None and version not in known:
        raise ModelError(
            f"there is no version {version} of model {name!r}", where=str(parent), fix=f"Use one of {known[0]} to {known[-1]}."
        )
    folder = parent / str(champion(root, name) if version is None else version)
    try:
        fields = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
        return StoredModel(**{**fields, "sizes": Sizes(**fields["sizes"]), "folder": str(folder)})
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ModelError("model.json is cut short, or of another release", where=str(folder), fix=_RETRAIN) from error


def versions(root: str, name: str) -> list[int]:
    """The versions of a model, oldest first."""
    parent = _models(root) / name
    return sorted(int(path.name) for path in parent.iterdir() if path.name.isdigit()) if parent.is_dir() else []


def champion(root: str, name: str, before: int | None = None) -> int | None:
    """The version that serves: the crowned one; where none was crowned, the newest, of those below `before` if that is given."""
    try:
        return int((_models(root) / name / CHAMPION).read_text(encoding="utf-8"))
    except FileNotFoundError:
        known = [version for version in versions(root, name) if before is None or version < before]
        return known[-1] if known else None
    except (OSError, ValueError) as error:
        where = str(_models(root) / name / CHAMPION)
        raise ModelError("the number of the champion cannot be read", where=where, fix="Write a version's number into it.") from error


def crown(warehouse: "Warehouse", name: str, version: int) -> None:
    """Makes that version the one that serves, in one move: a reader sees the old one or the new one. MLflow's alias follows."""
    path = _models(warehouse.path) / name / CHAMPION
    fresh = path.with_name(f".{CHAMPION}-{uuid.uuid4().hex}")
    try:
        fresh.write_text(str(version), encoding="utf-8")
        fresh.replace(path)
    except OSError as error:
        raise ModelError(f"the champion cannot be named: {error.strerror}", where=str(path), fix="Make room there.") from error
    tracking.name_champion(warehouse, name, version)


@functools.cache
def code_version() -> str:
    """The release, and a digest of the package's source, so that an edited checkout is told from it."""
    digest = hashlib.sha256()
    package = Path(foretaste.__file__).parent
    for path in sorted(package.rglob("*.py")):
        digest.update(str(path.relative_to(package)).encode() + path.read_bytes())
    return f"{foretaste.__version__}+{digest.hexdigest()[:12]}"


def _publish(stored: StoredModel, building: Path, parent: Path) -> StoredModel:
    """Renames the finished folder to the next free version, also where another run takes one at the same moment."""
    while True:
        version = max((int(path.name) for path in parent.iterdir() if path.name.isdigit()), default=0) + 1
        stored = dataclasses.replace(stored, version=version, folder=str(parent / str(version)))
        about = {key: value for key, value in dataclasses.asdict(stored).items() if key != "folder"}
        (building / ABOUT).write_text(json.dumps(about, indent=2), encoding="utf-8")
        try:
            building.rename(stored.folder)
        except OSError:
            if Path(stored.folder).exists():
                continue
            raise
        return stored


def _models(root: str) -> Path:
    if "://" in root:
        raise ModelError(
            "models are kept in a folder, not at a URL",
            where=root,
            fix="Set warehouse.path to a mounted folder (/Volumes/…, /dbfs/…, NFS), and catalog and schema for the tables.",
        )
    return Path(root) / "models"
