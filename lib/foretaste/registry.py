"""Stored models: `<warehouse>/models/<name>/<version>/` with weights, vocabulary and all that is known of how they came about.

    weights.safetensors   the network's tensors, no pickle
    judged.safetensors    the same before it learnt from validation time too, where it did: what it can be judged by on validation rows
    vocabulary.parquet    the vocabulary table as it was: which integer stands for which item, category and price
    model.json            everything else

`<warehouse>/models/<name>/champion` holds the number of the version that serves (steps/champion.py). A version is written to a temporary
folder and renamed: a reader sees all of it or nothing. Reading needs no Spark and no MLflow.

MLflow is told of each, for those who look there. A version is a run, with settings, table versions, curves, and, once it was judged, its
metrics with their intervals; and a version of a registered model, `foretaste-<name>` (on Databricks `catalog.schema.foretaste_<name>`),
whose aliases are `champion` and `challenger`. It can be loaded as a pyfunc (scoring/pyfunc.py), but for one that foretells counts. All of
it lies in `<warehouse>/mlflow.db` unless MLFLOW_TRACKING_URI names another place (`off`: nowhere). Whatever goes wrong there is a warning,
never the end of a job. The only file that knows MLflow.
"""

import contextlib
import dataclasses
import functools
import hashlib
import json
import logging
import os
import shutil
import tempfile
import time
import uuid
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import foretaste
from foretaste.contract import Sizes
from foretaste.errors import ModelError
from foretaste.stored_model import ABOUT, JUDGED, RETRAIN, VOCABULARY, WEIGHTS, StoredModel

if TYPE_CHECKING:  # the scorer loads models without Spark
    from pyspark.sql import DataFrame

    from foretaste.tables import Warehouse

CHAMPION, CHALLENGER = "champion", "challenger"
_VERSION_TAG = "foretaste.version"
_LOADER = "foretaste.scoring.pyfunc"
_MOST_METRICS, _MOST_PARAMETERS = 1000, 100  # what MLflow takes in one call
_log = logging.getLogger(__name__)


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
    _to_mlflow(warehouse, f"the run of {stored.name} version {stored.version}", lambda client: _log_run(client, warehouse, stored))
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
        raise ModelError("model.json is cut short, or of another release", where=str(folder), fix=RETRAIN) from error


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
    _to_mlflow(warehouse, f"the champion of {name}", lambda client: _alias(client, warehouse, name, version))


def log_metrics(warehouse: "Warehouse", stored: StoredModel, metrics: Mapping[str, float]) -> None:
    """Adds what an evaluation found to the version's run of MLflow."""

    def log(client: Any) -> None:
        import mlflow

        found = _registered_version(client, warehouse, stored.name, stored.version)
        if found is not None:
            now = int(time.time() * 1000)
            entities = [mlflow.entities.Metric(_name(key), value, now, 0) for key, value in metrics.items() if np.isfinite(value)]
            for start in range(0, len(entities), _MOST_METRICS):
                client.log_batch(found.run_id, metrics=entities[start : start + _MOST_METRICS])

    _to_mlflow(warehouse, f"the metrics of {stored.name} version {stored.version}", log)


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


def _to_mlflow(warehouse: "Warehouse", what: str, log: Callable[[Any], None]) -> None:
    """Calls `log` with MLflow's client. Whatever goes wrong there is a warning, never the end of a job."""
    uri = os.environ.get("MLFLOW_TRACKING_URI")
    if uri == "off":
        return
    try:
        import mlflow

        for name in ("mlflow", "alembic"):
            logging.getLogger(name).setLevel(logging.WARNING)
        on_databricks = "DATABRICKS_RUNTIME_VERSION" in os.environ
        own = None if on_databricks else f"sqlite:///{warehouse.path}/mlflow.db"
        log(mlflow.MlflowClient(uri or own, registry_uri="databricks-uc" if on_databricks and warehouse.settings.catalog else None))
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        _log.warning("MLflow did not take %s: %s: %s", what, type(error).__name__, reason)


def _log_run(client: Any, warehouse: "Warehouse", stored: StoredModel) -> None:
    """A run for the version, and a version of the registered model, as the challenger that it is."""
    import mlflow

    experiment = client.get_experiment_by_name(f"foretaste-{stored.name}")
    number = experiment.experiment_id if experiment else client.create_experiment(f"foretaste-{stored.name}", f"{warehouse.path}/mlruns")
    run = client.create_run(number, run_name=f"{stored.name} version {stored.version}").info
    now = int(time.time() * 1000)
    parameters = [mlflow.entities.Param(key, str(value)[:500]) for key, value in _parameters(stored).items()]
    metrics = [mlflow.entities.Metric(key, value, now, epoch) for key, value, epoch in _curves(stored)]
    client.log_batch(run.run_id, metrics=metrics[:_MOST_METRICS], params=parameters[:_MOST_PARAMETERS])
    if stored.head == "counts":
        client.log_artifacts(run.run_id, stored.folder, "model")
    else:
        with tempfile.TemporaryDirectory() as folder:
            _write_pyfunc(stored, Path(folder))
            client.log_artifacts(run.run_id, f"{folder}/pyfunc", "model")
    client.set_terminated(run.run_id)
    registered = _registered(warehouse, stored.name)
    with contextlib.suppress(mlflow.exceptions.MlflowException):  # it is there already
        client.create_registered_model(registered)
    version = client.create_model_version(
        registered, f"{run.artifact_uri}/model", run.run_id, tags={_VERSION_TAG: str(stored.version), "sha256": stored.sha256}
    )
    client.set_registered_model_alias(registered, CHALLENGER, version.version)


def _write_pyfunc(stored: StoredModel, folder: Path) -> None:
    """`folder`/pyfunc: a model of MLflow's that scoring/pyfunc.py loads, with a copy of the version's folder in it."""
    import mlflow
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema
    from mlflow.types.schema import Array

    data = folder / "data"
    shutil.copytree(stored.folder, data / "models" / stored.name / str(stored.version))
    integer, text, real = DataType.integer, DataType.string, DataType.double
    inputs: list[Any] = [ColSpec(Array(integer) if is_list else integer, name) for name, is_list in stored.columns.items()]
    outputs: list[Any] = [ColSpec(Array(text), "target_id"), ColSpec(Array(real), "score"), ColSpec(DataType.boolean, "fallback")]
    warnings.filterwarnings("ignore", "(?s).*An input example was not provided", UserWarning)  # the signature is from what the model reads
    mlflow.pyfunc.save_model(
        folder / "pyfunc",
        loader_module=_LOADER,
        data_path=str(data),
        pip_requirements=[f"foretaste=={foretaste.__version__}"],
        signature=ModelSignature(inputs=Schema(inputs), outputs=Schema(outputs)),
        model_config={"top_k": 20},  # what is not named here cannot be asked for where it is loaded
    )


def _alias(client: Any, warehouse: "Warehouse", name: str, version: int) -> None:
    """The champion is no challenger any more."""
    found = _registered_version(client, warehouse, name, version)
    if found is None:
        return
    registered = _registered(warehouse, name)
    client.set_registered_model_alias(registered, CHAMPION, found.version)
    challenger = client.get_registered_model(registered).aliases.get(CHALLENGER)
    if challenger is not None and str(challenger) == str(found.version):
        client.delete_registered_model_alias(registered, CHALLENGER)


def _registered(warehouse: "Warehouse", name: str) -> str:
    if warehouse.settings.catalog and "DATABRICKS_RUNTIME_VERSION" in os.environ:
        return f"{warehouse.settings.catalog}.{warehouse.settings.schema_name}.foretaste_{name}"
    return f"foretaste-{name}"


def _registered_version(client: Any, warehouse: "Warehouse", name: str, version: int) -> Any:
    """MLflow's own version of ours, which may have another number; None where it was never logged."""
    known = client.search_model_versions(f"name='{_registered(warehouse, name)}'")
    return next((each for each in known if each.tags.get(_VERSION_TAG) == str(version)), None)


def _parameters(stored: StoredModel) -> dict[str, Any]:
    versions_of = {f"table.{table}": version for table, version in stored.tables.items()}
    of_settings = {_name(key): value for key, value in _flat(stored.settings).items()}
    return {**of_settings, **versions_of, "seed": stored.seed, "code_version": stored.code_version, "sha256": stored.sha256}


def _curves(stored: StoredModel) -> list[tuple[str, float, int]]:
    """(name, value, epoch): each epoch's, and the best."""
    best = [(f"best.{name}", value, 0) for name, value in stored.metrics.items()]
    curves = [(name, value, int(entry["epoch"])) for entry in stored.history for name, value in entry.items() if name != "epoch"]
    return [(_name(name), float(value), epoch) for name, value, epoch in (*best, *curves)]


def _name(key: str) -> str:
    """MLflow refuses @ in a name."""
    return key.replace("@", "_at_")


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as `group.key`."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat
