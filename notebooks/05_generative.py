# Databricks notebook source
# MAGIC %md
# MAGIC # Behaviour that nobody left
# MAGIC A model of the task `behaviour` (a GAN, or a VAE) writes rows of behaviour. How near do they come to real ones, and do they tell of
# MAGIC anybody? Trains where the deployment has such a task and no model of it yet; without the task, it shows how one is added.

# COMMAND ----------

dbutils.widgets.text("config", "conf/behaviour.yaml", "settings")
dbutils.widgets.text("catalog", "", "catalog, where tables are not kept by path")
dbutils.widgets.text("schema", "", "schema")

# COMMAND ----------

import matplotlib.pyplot as plt
from pyspark.sql import functions as F

from foretaste import registry
from foretaste.notebook import opened, views
from foretaste.steps.synthesize import synthesize
from foretaste.steps.train import train
from foretaste.tables.sequences import SEQUENCES
from foretaste.tables.synthetic_sequences import SYNTHETIC_SEQUENCES
from foretaste.tables.vocabulary import VOCABULARY

warehouse, settings = opened(spark, dbutils)

# COMMAND ----------

if "behaviour" not in settings.tasks:
    print("Add `tasks: {behaviour: {model: {name: gan}}}` to the settings, or choose conf/behaviour.yaml.")
else:
    steps = (synthesize,) if registry.versions(warehouse.path, "behaviour") else (train, synthesize)
    for step in steps:
        print(*step(warehouse, settings).notes, sep="\n")
    views(warehouse)

# COMMAND ----------

# MAGIC %md
# MAGIC ## Items and lengths, written beside real

# COMMAND ----------


def told(rows):
    """Of a table's rows: how often each item comes, and how long histories are."""
    items = rows.select(F.explode("item").alias("index")).where("index >= 2").groupBy("index").count()
    lengths = rows.groupBy("length").count()
    return items.toPandas().set_index("index")["count"], lengths.toPandas().set_index("length")["count"].sort_index()


real = told(warehouse.read(SEQUENCES).where("split = 'train'"))
written = told(warehouse.read(SYNTHETIC_SEQUENCES)) if warehouse.exists(SYNTHETIC_SEQUENCES) else None
figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4))
right.plot(real[1].index, real[1] / real[1].sum(), label="real")
if written:
    both = (real[0] / real[0].sum()).to_frame("real").join((written[0] / written[0].sum()).to_frame("written"), how="outer").fillna(1e-7)
    left.loglog(both.real, both.written, ".", markersize=3)
    left.axline((1e-4, 1e-4), (1e-2, 1e-2), color="grey", linestyle=":")
    right.plot(written[1].index, written[1] / written[1].sum(), "--", label="written")
left.set(title="share of each item", xlabel="in real rows", ylabel="in written rows")
right.set(title="length of histories", xlabel="events", ylabel="share of rows")
right.legend()
display(figure)

# COMMAND ----------

# MAGIC %md
# MAGIC ## How good, how private
# MAGIC The newest report's figures. A two-sample AUC near 0.5: no classifier tells written rows from real ones. A membership AUC near
# MAGIC 0.5: nobody finds out by them who was learnt from.

# COMMAND ----------

# MAGIC %sql
# MAGIC SELECT task, model, segment, metric, round(value, 4) AS value, round(low, 4) AS low, round(high, 4) AS high
# MAGIC FROM metrics WHERE task IN ('behaviour', 'interest') ORDER BY run_at DESC, metric LIMIT 40

# COMMAND ----------

# MAGIC %md
# MAGIC ## What a written history reads like

# COMMAND ----------

source = warehouse.read(SYNTHETIC_SEQUENCES if warehouse.exists(SYNTHETIC_SEQUENCES) else SEQUENCES).limit(5)
words = warehouse.read(VOCABULARY).where("field = 'item'").select("index", "value")
flat = (
    source.withColumn("row", F.monotonically_increasing_id())
    .select("row", F.posexplode("item").alias("place", "index"))
    .where("index >= 2")
)
display(flat.join(words, on="index").orderBy("row", "place").groupBy("row").agg(F.collect_list("value").alias("items")))
