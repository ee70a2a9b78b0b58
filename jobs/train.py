"""sequences, pinned at one version → a model version of each task.

spark-submit jobs/train.py --config conf/demo.yaml --set key.sub=value
"""

from foretaste.command import main_of

if __name__ == "__main__":
    main_of("train")
