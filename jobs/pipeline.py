"""Raw files → scores: every step in turn, and a look at what came out.

spark-submit jobs/pipeline.py --config conf/demo.yaml --set key.sub=value
"""

from foretaste.job import run
from foretaste.steps.evaluate import evaluate
from foretaste.steps.ingest import ingest
from foretaste.steps.score import score
from foretaste.steps.sequence import sequence
from foretaste.steps.sessionize import sessionize
from foretaste.steps.train import train
from foretaste.summary import summarize

if __name__ == "__main__":
    run(ingest, sessionize, sequence, train, evaluate, score, after=summarize)
