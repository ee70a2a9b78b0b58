"""Raw files → events, events_quarantine and items.

spark-submit jobs/ingest.py --config conf/demo.yaml --set key.sub=value
"""

from foretaste.job import run
from foretaste.steps.ingest import ingest

if __name__ == "__main__":
    run(ingest)
