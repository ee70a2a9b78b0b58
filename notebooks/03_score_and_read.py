# Databricks notebook source
# MAGIC %md
# MAGIC # Score everybody, and read the scores
# MAGIC Needs a trained model of each task (notebook 02, or `jobs/train.py`).

# COMMAND ----------

dbutils.widgets.text("config", "conf/demo.yaml", "settings")
dbutils.widgets.text("catalog", "", "catalog, where tables are not kept by path")
dbutils.widgets.text("schema", "", "schema")

# COMMAND ----------

from foretaste.notebook import opened, views
from foretaste.steps.score import score

warehouse, settings = opened(spark, dbutils)

# COMMAND ----------

report = score(warehouse, settings)
print(report.written, *report.notes, sep="\n")
views(warehouse)

# COMMAND ----------

# MAGIC %md
# MAGIC ## What to show to whom

# COMMAND ----------

# MAGIC %sql
# MAGIC SELECT user_id, rank, target_id, target_name, round(score, 4) AS score, fallback
# MAGIC FROM scores_flat WHERE task = 'interest' ORDER BY user_id, rank LIMIT 30

# COMMAND ----------

# MAGIC %md
# MAGIC ## What many users want
# MAGIC The items that are among the best three of most users.

# COMMAND ----------

# MAGIC %sql
# MAGIC SELECT target_id, any_value(target_name) AS name, count(*) AS users, round(avg(score), 4) AS mean_score
# MAGIC FROM scores_flat WHERE task = 'interest' AND rank <= 3 GROUP BY target_id ORDER BY users DESC LIMIT 20

# COMMAND ----------

# MAGIC %md
# MAGIC ## How much of it is popularity, for want of history

# COMMAND ----------

# MAGIC %sql
# MAGIC SELECT as_of, task, count(*) AS users, round(avg(CAST(fallback AS INT)), 4) AS fallback
# MAGIC FROM scores GROUP BY as_of, task ORDER BY as_of DESC, task
