"""models and baselines on the test split → metrics.

spark-submit jobs/evaluate.py --config conf/demo.yaml --set key.sub=value
"""

from foretaste.command import main_of

if __name__ == "__main__":
    main_of("evaluate")
