"""The only builder of a SparkSession: local, on a cluster, or the one that Databricks has already started; and settings for a while."""

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pyspark
from py4j.java_gateway import java_import
from pyspark.sql import SparkSession

from foretaste.settings import SparkSettings

DELTA_PACKAGE = "io.delta:delta-spark_2.12:3.3.3"


def spark_session(settings: SparkSettings, name: str = "foretaste") -> SparkSession:
    """The running session if there is one, else a new one with Delta and UTC.

    The master that spark-submit was given counts. In all else `settings.conf` wins over our defaults, and they over spark-submit's.
    """
    running = SparkSession.getActiveSession()
    if running is not None:
        return running
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)  # local executors read the variable, not the setting below
    builder = SparkSession.builder.appName(name)
    for key, value in {**defaults(settings), **settings.conf}.items():
        builder = builder.config(key, value)
    session = builder.getOrCreate()
    session.sparkContext.setLogLevel("ERROR")
    # Each use of pyspark.sql.functions asks the JVM for this class by its last name: without an import it is looked for in package after
    # package, in every JAR.
    java_import(session.sparkContext._jvm, "org.apache.spark.sql.functions")
    return session


@contextmanager
def configured(spark: SparkSession, conf: Mapping[str, str]) -> Iterator[None]:
    """Spark's settings inside; the session's own before and after (`unset` alone goes to Spark's defaults)."""
    before = {name: spark.conf.get(name, None) for name in conf}
    for name, value in conf.items():
        spark.conf.set(name, value)
    try:
        yield
    finally:
        for name, old in before.items():
            if old is None:
                spark.conf.unset(name)
            else:
                spark.conf.set(name, old)


def defaults(settings: SparkSettings) -> dict[str, str]:
    """Spark's settings of a new session, before `settings.conf` has its say."""
    chosen = {
        "spark.driver.memory": settings.driver_memory,
        "spark.sql.shuffle.partitions": str(settings.shuffle_partitions),
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
        "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
        "spark.databricks.delta.snapshotPartitions": str(settings.shuffle_partitions),  # 50 by default: slow on small tables
        "spark.sql.codegen.cache.maxEntries": "2000",  # 100 by default: a job has more kinds of queries, and compiles them anew
        "spark.sql.execution.arrow.pyspark.enabled": "true",
        "spark.ui.showConsoleProgress": "false",
        "spark.pyspark.python": os.environ.get("PYSPARK_PYTHON", sys.executable),
    }
    master = None if "PYSPARK_GATEWAY_PORT" in os.environ else settings.master  # spark-submit has the say on it, and has started the JVM
    if master is not None:
        chosen["spark.master"] = master
    if master is not None and master.startswith("local"):
        # One JVM does all the work, and nobody waits for an answer from it: what counts is the work done, not how short its pauses are.
        chosen["spark.driver.extraJavaOptions"] = "-XX:+UseParallelGC"
    if not any(_jars().glob("delta-spark_*.jar")):  # the set-up puts the JARs there; elsewhere Spark fetches them
        chosen["spark.jars.packages"] = DELTA_PACKAGE
    return chosen


def _jars() -> Path:
    home = os.environ.get("SPARK_HOME")
    return Path(home or Path(pyspark.__file__).parent) / "jars"
