"""What MLflow is told of stored models, for those who look there: the jobs themselves read the registry's folders alone.

Each version is a run, with settings, table versions, curves, and, once it was judged, its metrics with their intervals; and a version of
a registered model, `foretaste-<name>` (on Databricks `catalog.schema.foretaste_<name>`), whose aliases are `champion` and `challenger`. It
can be loaded as a pyfunc (scoring/pyfunc.py), but for one that foretells counts. All of it lies in `<warehouse>/mlflow.db` unless
MLFLOW_TRACKING_URI names another place (`off`: nowhere). Whatever goes wrong there is a warning, never the end of a job. The only file that
knows MLflow.
"""

import contextlib
import logging
import os
import shutil
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import foretaste

if TYPE_CHECKING:
    from foretaste.registry import StoredModel
    from foretaste.tables import Warehouse

_CHAMPION, _CHALLENGER = "champion", "challenger"
_VERSION_TAG = "foretaste.version"
_LOADER = "foretaste.scoring.pyfunc"
_MOST_METRICS, _MOST_PARAMETERS = 1000, 100  # what MLflow takes in one call
_log = logging.getLogger(__name__)


def log_version(warehouse: "Warehouse", stored: "StoredModel") -> None:
    """A run for the version, and a version of the registered model: the challenger, until it is crowned."""
    _to_mlflow(warehouse, f"the run of {stored.name} version {stored.version}", lambda client: _log_run(client, warehouse, stored))


def name_champion(warehouse: "Warehouse", name: str, version: int) -> None:
    """Moves the alias, where that version was logged."""
    _to_mlflow(warehouse, f"the champion of {name}", lambda client: _alias(client, warehouse, name, version))


def log_metrics(warehouse: "Warehouse", stored: "StoredModel", metrics: Mapping[str, float]) -> None:
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


def _log_run(client: Any, warehouse: "Warehouse", stored: "StoredModel") -> None:
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
    client.set_registered_model_alias(registered, _CHALLENGER, version.version)


def _write_pyfunc(stored: "StoredModel", folder: Path) -> None:
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
    client.set_registered_model_alias(registered, _CHAMPION, found.version)
    challenger = client.get_registered_model(registered).aliases.get(_CHALLENGER)
    if challenger is not None and str(challenger) == str(found.version):
        client.delete_registered_model_alias(registered, _CHALLENGER)


def _registered(warehouse: "Warehouse", name: str) -> str:
    if warehouse.settings.catalog and "DATABRICKS_RUNTIME_VERSION" in os.environ:
        return f"{warehouse.settings.catalog}.{warehouse.settings.schema_name}.foretaste_{name}"
    return f"foretaste-{name}"


def _registered_version(client: Any, warehouse: "Warehouse", name: str, version: int) -> Any:
    """MLflow's own version of ours, which may have another number; None where it was never logged."""
    known = client.search_model_versions(f"name='{_registered(warehouse, name)}'")
    return next((each for each in known if each.tags.get(_VERSION_TAG) == str(version)), None)


def _parameters(stored: "StoredModel") -> dict[str, Any]:
    versions_of = {f"table.{table}": version for table, version in stored.tables.items()}
    of_settings = {_name(key): value for key, value in _flat(stored.settings).items()}
    return {**of_settings, **versions_of, "seed": stored.seed, "code_version": stored.code_version, "sha256": stored.sha256}


def _curves(stored: "StoredModel") -> list[tuple[str, float, int]]:
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
