"""every user, by every task's model → scores.

spark-submit jobs/score.py --config conf/demo.yaml --set key.sub=value
"""

from foretaste.job import run
from foretaste.steps.score import score

if __name__ == "__main__":
    run(score)
