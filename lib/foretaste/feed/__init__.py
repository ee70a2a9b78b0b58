"""A pinned table version → Petastorm → Batch: sharded, equal steps, audited.

pin:      the files of one version of `sequences` (Spark, in the driver)
snapshot: Pin itself, which goes to the ranks as JSON
order:    which rows each step and each rank takes
groups:   row groups as arrays
blocks:   their rows at their places in the steps to come
reader:   batches of these, through Petastorm
audit:    how often each row was seen
Import from these: each brings in only what it needs, so that a rank starts without Spark.
"""
