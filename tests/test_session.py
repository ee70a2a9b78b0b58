"""What a new session is told, before a user's own settings."""

import pytest
from pyspark.sql import SparkSession

from foretaste.session import defaults
from foretaste.settings import SparkSettings


@pytest.mark.parametrize(
    ("master", "submitted", "told"),
    [
        ("local[*]", False, ("local[*]", "-XX:+UseParallelGC")),
        ("local[2]", False, ("local[2]", "-XX:+UseParallelGC")),
        ("local[*]", True, (None, None)),
        ("spark://host:7077", False, ("spark://host:7077", None)),
        (None, False, (None, None)),
    ],
)
def test_one_jvm_that_does_all_the_work_collects_for_throughput_and_spark_submit_has_the_say(
    monkeypatch: pytest.MonkeyPatch, master: str | None, submitted: bool, told: tuple[str | None, str | None]
) -> None:
    monkeypatch.delenv("PYSPARK_GATEWAY_PORT", raising=False)
    if submitted:
        monkeypatch.setenv("PYSPARK_GATEWAY_PORT", "1")
    chosen = defaults(SparkSettings(master=master))
    assert (chosen.get("spark.master"), chosen.get("spark.driver.extraJavaOptions")) == told


def test_a_session_keeps_what_it_compiles(spark: SparkSession) -> None:
    assert spark.conf.get("spark.sql.codegen.cache.maxEntries") == "2000"
