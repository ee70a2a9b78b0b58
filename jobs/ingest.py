"""Raw files → events, events_quarantine and items.

spark-submit jobs/ingest.py --config conf/demo.yaml --set key.sub=value
"""

from foretaste.steps.ingest import ingest

from foretaste.job import run

if __name__ == "__main__":
    run(ingest)
