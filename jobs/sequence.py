"""sessions → vocabulary and sequences.

spark-submit jobs/sequence.py --config conf/demo.yaml --set key.sub=value
"""

from foretaste.job import run
from foretaste.steps.sequence import sequence

if __name__ == "__main__":
    run(sequence)
