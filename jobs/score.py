"""every user, by every task's model → scores.

spark-submit jobs/score.py --config conf/demo.yaml --set key.sub=value
"""

from foretaste.command import main_of

if __name__ == "__main__":
    main_of("score")
