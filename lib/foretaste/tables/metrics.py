"""metrics: how well each model and baseline did, with intervals."""

from foretaste.tables.table import Column, Table

METRICS = Table(
    name="metrics",
    comment="One row per run, task, model, split, segment and metric",
    columns=(
        Column(name="run_at", type="timestamp", comment="when the evaluation ran, UTC", required=True),
        Column(name="task", type="string", comment="the use case", required=True),
        Column(name="model", type="string", comment="a model's name, or a baseline's", required=True),
        Column(name="model_version", type="int", comment="the model's version; null for a baseline"),
        Column(name="split", type="string", comment="valid or test", required=True),
        Column(name="segment", type="string", comment="all, or a group of users", required=True),
        Column(name="metric", type="string", comment="such as recall@20 or roc_auc", required=True),
        Column(name="value", type="double", comment="the metric over all rows", required=True),
        Column(name="low", type="double", comment="2.5th percentile over bootstrap resamples of users", required=True),
        Column(name="high", type="double", comment="97.5th percentile over bootstrap resamples of users", required=True),
        Column(name="num_rows", type="bigint", comment="rows that it was measured on", required=True),
    ),
    key=("run_at", "task", "model", "split", "segment", "metric"),
)
