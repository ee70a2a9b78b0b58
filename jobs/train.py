"""sequences, pinned at one version → a model version of each task.

spark-submit jobs/train.py --config conf/demo.yaml --set key.sub=value
"""

from foretaste.job import run
from foretaste.steps.train import train

if __name__ == "__main__":
    run(train)
