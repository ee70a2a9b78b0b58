"""a model that writes behaviour → synthetic_sequences, with reports on their quality and privacy.

spark-submit jobs/synthesize.py --config conf/behaviour.yaml --set synthesis.rows=100000
"""

from foretaste.job import run
from foretaste.steps.synthesize import synthesize

if __name__ == "__main__":
    run(synthesize)
