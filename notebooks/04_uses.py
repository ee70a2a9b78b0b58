# Databricks notebook source
# MAGIC %md
# MAGIC # What the scores are for
# MAGIC Recommendation, churn, campaigns, new items, stock: what each use asks of the tables, and what its model is worth. Shows what the
# MAGIC deployment has; `conf/use_cases.yaml` has all five. Needs scores (notebook 03, or `jobs/pipeline.py`).

# COMMAND ----------

dbutils.widgets.text("config", "conf/use_cases.yaml", "settings")
dbutils.widgets.text("catalog", "", "catalog, where tables are not kept by path")
dbutils.widgets.text("schema", "", "schema")

# COMMAND ----------

import matplotlib.pyplot as plt
from pyspark.sql import functions as F

from foretaste.notebook import opened
from foretaste.tables.demand import DEMAND
from foretaste.tables.metrics import METRICS
from foretaste.tables.scores import SCORES

warehouse, settings = opened(spark, dbutils)
print("tasks of this deployment:", *settings.tasks)

# COMMAND ----------

# MAGIC %md
# MAGIC ## What each is worth
# MAGIC The newest evaluation's differences to what needs no such model, on test rows, with 95 % intervals over users.

# COMMAND ----------

# MAGIC %sql
# MAGIC SELECT task, model AS difference, metric, round(value, 4) AS value, round(low, 4) AS low, round(high, 4) AS high
# MAGIC FROM metrics WHERE run_at = (SELECT max(run_at) FROM metrics) AND split = 'test' AND segment = 'all' AND model LIKE '% minus %'
# MAGIC   AND metric IN ('recall@20', 'hits@10', 'roc_auc', 'found@30%', 'found@10%', 'buyers@1%', 'pinball')
# MAGIC ORDER BY task, metric, value DESC

# COMMAND ----------

# MAGIC %md
# MAGIC ## Recommendation: what to show
# MAGIC Ten users' best three, and how sure of them.

# COMMAND ----------

# MAGIC %sql
# MAGIC SELECT user_id, collect_list(struct(rank, coalesce(target_name, target_id) AS item, round(score, 3) AS score)) AS targets
# MAGIC FROM scores_flat WHERE task = 'interest' AND rank <= 3 GROUP BY user_id ORDER BY xxhash64(user_id) LIMIT 10

# COMMAND ----------

# MAGIC %md
# MAGIC ## Chances: who stays away, who answers
# MAGIC How the chances of tasks that ask yes or no are spread over users, and, of the test rows, what was foretold of each tenth and what
# MAGIC came.

# COMMAND ----------

asked = [name for name in settings.tasks if name in ("churn", "returns", "campaign", "uplift")]
chances = warehouse.read(SCORES).where(F.col("task").isin(asked)).select("task", F.explode("targets.score").alias("score")).toPandas()
points = warehouse.read(METRICS).where("split = 'test' AND metric LIKE '% in tenth %'").orderBy("run_at").toPandas()
points = points[points.model.isin(asked)].drop_duplicates(["task", "metric"], keep="last")
if asked:
    figure, axes = plt.subplots(2, len(asked), figsize=(4.5 * len(asked), 6), squeeze=False)
    for above, below, task in zip(axes[0], axes[1], asked, strict=True):
        above.hist(chances[chances.task == task].score, bins=40)
        above.set(title=f"{task}: chances of all users", xlabel="score", ylabel="users")
        own = points[points.task == task].set_index("metric").value
        tenths = range(1, 1 + len(own) // 2)
        below.plot([own[f"predicted in tenth {n}"] for n in tenths], [own[f"observed in tenth {n}"] for n in tenths], "o-")
        below.axline((0, 0), slope=1, linestyle=":", color="grey")
        below.set(title=f"{task}: tenths of the test rows", xlabel="foretold", ylabel="came")
    figure.tight_layout()
    display(figure)
else:
    print("this deployment has no task whose answer is a chance")

# COMMAND ----------

# MAGIC %md
# MAGIC ## Stock: how many units, day by day
# MAGIC The series with most units foretold, with the bands of the quantiles that scoring was asked for.

# COMMAND ----------

if warehouse.exists(DEMAND):
    newest = warehouse.read(DEMAND).where(F.col("as_of") == warehouse.read(DEMAND).agg(F.max("as_of")).head()[0])
    largest = newest.groupBy("series_id").agg(F.sum("mean").alias("units")).orderBy(F.desc("units")).limit(4)
    rows = newest.join(F.broadcast(largest), on="series_id").toPandas()
    figure, axes = plt.subplots(1, rows.series_id.nunique(), figsize=(4.5 * rows.series_id.nunique(), 3), squeeze=False)
    for axis, (series, own) in zip(axes[0], rows.sort_values("day").groupby("series_id"), strict=True):
        bounds = [sorted(each["units"] for each in quantiles) for quantiles in own.quantiles]
        axis.fill_between(own.day, [each[0] for each in bounds], [each[-1] for each in bounds], alpha=0.3)
        axis.plot(own.day, own["mean"], "o-")
        axis.set(title=f"{series}: units a day", ylim=(0, None))
        axis.tick_params(axis="x", rotation=30)
    display(figure)
else:
    print("this deployment has no task `demand`")
