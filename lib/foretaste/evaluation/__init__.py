"""How good a model is: metrics as sums over rows, baselines, and intervals over users. No Spark here; steps/evaluate.py runs it."""
