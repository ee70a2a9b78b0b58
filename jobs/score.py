"""every user, by every task's model → scores.

spark-submit jobs/score.py --config conf/demo.yaml --set key.sub=value
"""

from foretaste.steps.score import score

from foretaste.job import run

if __name__ == "__main__":
    run(score)
