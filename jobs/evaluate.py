"""models and baselines on the test split → metrics.

spark-submit jobs/evaluate.py --config conf/demo.yaml --set key.sub=value
"""

from foretaste.job import run
from foretaste.steps.evaluate import evaluate

if __name__ == "__main__":
    run(evaluate)
