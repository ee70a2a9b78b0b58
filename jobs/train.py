"""sequences, pinned at one version → a model version of each task.

spark-submit jobs/train.py --config conf/demo.yaml --set key.sub=value
"""

from foretaste.steps.train import train

from foretaste.job import run

if __name__ == "__main__":
    run(train)
