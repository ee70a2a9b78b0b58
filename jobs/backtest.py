"""sessions → metrics of rolling-origin cross-validation: every task trained and judged on splits further and further back.

spark-submit jobs/backtest.py --config conf/demo.yaml --set evaluation.folds=4 --set evaluation.fold_step=7d
"""

from foretaste.command import main_of

if __name__ == "__main__":
    main_of("backtest")
