"""sessions → vocabulary and sequences.

spark-submit jobs/sequence.py --config conf/demo.yaml --set key.sub=value
"""

from foretaste.steps.sequence import sequence

from foretaste.job import run

if __name__ == "__main__":
    run(sequence)
