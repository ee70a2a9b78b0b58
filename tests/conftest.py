"""One Spark session for all tests, and an empty warehouse for each."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from foretaste.session import spark_session
from foretaste.settings import SparkSettings, WarehouseSettings
from foretaste.tables import Warehouse


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Fast tests first, then those that start a cluster, then those with Spark: the longest are not left for the end, when one process of
    two has nothing to do.
    """

    def rank(item: pytest.Item) -> int:
        if item.get_closest_marker("cluster"):
            return 1
        return 2 if "spark" in getattr(item, "fixturenames", ()) else 0

    items.sort(key=rank)


# Each query runs once, on a few rows: to compile it costs more than to interpret it, and to plan it again at each stage more than that
# gains. The JVM itself compiles what it can: planning is most of what it does. Tests that start a cluster or a job do as users do.
QUICK = {
    "spark.driver.extraJavaOptions": "-XX:+UseSerialGC",
    "spark.sql.adaptive.enabled": "false",
    "spark.sql.codegen.wholeStage": "false",
    "spark.sql.codegen.factoryMode": "NO_CODEGEN",
    "spark.sql.ui.explainMode": "simple",  # plans are written out for pages that nobody opens
}


@pytest.fixture(scope="session")
def spark() -> Iterator[SparkSession]:
    conf = {"spark.ui.enabled": "false", "spark.driver.host": "127.0.0.1", "spark.driver.bindAddress": "127.0.0.1", **QUICK}
    session = spark_session(SparkSettings(master="local[2]", driver_memory="3g", shuffle_partitions=2, conf=conf))
    session.sparkContext.setLogLevel("OFF")  # what a test provokes is not news
    yield session
    session.stop()


@pytest.fixture(autouse=True)
def no_mlflow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Making its database takes seconds; a test of the log itself unsets this."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "off")


@pytest.fixture
def warehouse(spark: SparkSession, tmp_path: Path) -> Warehouse:
    return Warehouse(spark, WarehouseSettings(path=str(tmp_path / "warehouse")))
