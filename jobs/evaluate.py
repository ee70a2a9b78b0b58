"""models and baselines on the test split → metrics.

spark-submit jobs/evaluate.py --config conf/demo.yaml --set key.sub=value
"""

from foretaste.steps.evaluate import evaluate

from foretaste.job import run

if __name__ == "__main__":
    run(evaluate)
