# Databricks notebook source
# MAGIC %md
# MAGIC # What users did
# MAGIC Events as the sources told them, the records that were no events, and the sessions that events became.
# MAGIC Run `jobs/ingest.py` and `jobs/sessionize.py` first, or the whole of `jobs/pipeline.py`.

# COMMAND ----------

dbutils.widgets.text("config", "conf/demo.yaml", "settings")
dbutils.widgets.text("catalog", "", "catalog, where tables are not kept by path")
dbutils.widgets.text("schema", "", "schema")

# COMMAND ----------

import matplotlib.pyplot as plt
from pyspark.sql import functions as F

from foretaste.notebook import opened
from foretaste.tables.events import EVENTS
from foretaste.tables.sessions import SESSIONS

warehouse, settings = opened(spark, dbutils)

# COMMAND ----------

# MAGIC %md
# MAGIC ## Events

# COMMAND ----------

# MAGIC %sql
# MAGIC SELECT event_type, count(*) AS events, count(DISTINCT user_id) AS users, count(DISTINCT item_id) AS items,
# MAGIC   min(event_time) AS first, max(event_time) AS last
# MAGIC FROM events GROUP BY event_type ORDER BY events DESC

# COMMAND ----------

daily = warehouse.read(EVENTS).groupBy(F.to_date("event_time").alias("day"), "event_type").count().toPandas()
figure, axes = plt.subplots(figsize=(9, 3))
daily.pivot(index="day", columns="event_type", values="count").fillna(0).plot(ax=axes, logy=True)
axes.set(title="Events a day", xlabel="", ylabel="events")
display(figure)

# COMMAND ----------

# MAGIC %md
# MAGIC ## Sessions
# MAGIC A pause ends a session. How long are they, and how many does a user have?

# COMMAND ----------

sessions = warehouse.read(SESSIONS)
length = sessions.groupBy("num_events").count().toPandas().sort_values("num_events")
of_user = sessions.groupBy("user_id").count().groupBy("count").agg(F.count("*").alias("users")).toPandas().sort_values("count")
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3))
left.loglog(length["num_events"], length["count"], ".")
left.set(title="Sessions by their length", xlabel="events", ylabel="sessions")
right.loglog(of_user["count"], of_user["users"], ".")
right.set(title="Users by their sessions", xlabel="sessions", ylabel="users")
display(figure)

# COMMAND ----------

# MAGIC %sql
# MAGIC SELECT started_at, num_events, round((unix_seconds(ended_at) - unix_seconds(started_at)) / 60, 1) AS minutes,
# MAGIC   array_distinct(event_type) AS types, slice(item_id, 1, 5) AS first_items
# MAGIC FROM sessions ORDER BY num_events DESC LIMIT 10
