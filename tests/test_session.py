"""What a new session is told, before a user's own settings."""

import pytest

from foretaste.session import defaults
from foretaste.settings import SparkSettings


@pytest.mark.parametrize(
    ("master", "collector"),
    [("local[*]", "-XX:+UseParallelGC"), ("local[2]", "-XX:+UseParallelGC"), ("spark://host:7077", None), (None, None)],
)
def test_throughput_counts_where_one_jvm_does_all_the_work_and_a_cluster_keeps_its_own(master: str | None, collector: str | None) -> None:
    assert defaults(SparkSettings(master=master)).get("spark.driver.extraJavaOptions") == collector
