# Databricks notebook source
# MAGIC %md
# MAGIC # Train, and compare with what needs no training
# MAGIC Fits each task of the settings on `sequences` (run `jobs/sequence.py` first), judges it on test rows, and puts its baselines
# MAGIC beside it.

# COMMAND ----------

dbutils.widgets.text("config", "conf/demo.yaml", "settings")
dbutils.widgets.text("catalog", "", "catalog, where tables are not kept by path")
dbutils.widgets.text("schema", "", "schema")
dbutils.widgets.dropdown("fit", "yes", ["yes", "no"], "train and judge now, or show what is there")

# COMMAND ----------

import matplotlib.pyplot as plt
from pyspark.sql import functions as F

from foretaste import registry
from foretaste.notebook import opened, views
from foretaste.steps.evaluate import evaluate
from foretaste.steps.train import train
from foretaste.tables.metrics import METRICS

warehouse, settings = opened(spark, dbutils)

# COMMAND ----------

if dbutils.widgets.get("fit") == "yes":
    for step in (train, evaluate):
        for line in step(warehouse, settings).notes:
            print(line)
    views(warehouse)

# COMMAND ----------

# MAGIC %md
# MAGIC ## How the champions learnt

# COMMAND ----------

models = {task: registry.load(warehouse.path, task) for task in settings.tasks}
figure, axes = plt.subplots(1, len(models), figsize=(4.5 * len(models), 3), squeeze=False)
for axis, (task, model) in zip(axes[0], models.items(), strict=True):
    axis.plot([entry["epoch"] for entry in model.history], [entry["loss"] for entry in model.history], "o-")
    axis.set(title=f"{task}, version {model.version}", xlabel="epoch", ylabel="training loss")
display(figure)

# COMMAND ----------

# MAGIC %md
# MAGIC ## What they are worth
# MAGIC On test rows, with 95 % intervals over users. `A minus B` is the paired difference: where its interval holds 0, the two
# MAGIC cannot be told apart.

# COMMAND ----------

# MAGIC %sql
# MAGIC SELECT task, model, metric, round(value, 4) AS value, round(low, 4) AS low, round(high, 4) AS high, num_rows
# MAGIC FROM metrics WHERE run_at = (SELECT max(run_at) FROM metrics) AND split = 'test' AND segment = 'all'
# MAGIC   AND metric IN ('recall@20', 'ndcg@20', 'roc_auc', 'pr_auc', 'calibration_error')
# MAGIC ORDER BY task, metric, value DESC

# COMMAND ----------

newest = warehouse.read(METRICS).where((F.col("split") == "test") & (F.col("segment") == "all") & ~F.col("model").contains(" minus "))
rows = newest.where(F.col("metric").isin("recall@20", "roc_auc")).orderBy("run_at").toPandas()
rows = rows.drop_duplicates(["task", "model", "metric"], keep="last")
figure, axes = plt.subplots(1, len(models), figsize=(4.5 * len(models), 4), squeeze=False)
for axis, task in zip(axes[0], models, strict=True):
    own = rows[rows.task == task].sort_values("value")
    axis.barh(
        own.model, own.value, xerr=[own.value - own.low, own.high - own.value], color=["C1" if name == task else "C0" for name in own.model]
    )
    axis.set(title=f"{task}: {', '.join(own.metric.unique())}")
figure.tight_layout()
display(figure)
