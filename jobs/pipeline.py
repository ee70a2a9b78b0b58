"""Raw files → scores: every step in turn, and a look at what came out.

spark-submit jobs/pipeline.py --config conf/demo.yaml --set key.sub=value
"""

from foretaste.command import main_of

if __name__ == "__main__":
    main_of("pipeline")
