"""a model that writes behaviour → synthetic_sequences, with reports on their quality and privacy.

spark-submit jobs/synthesize.py --config conf/behaviour.yaml --set synthesis.rows=100000
"""

from foretaste.command import main_of

if __name__ == "__main__":
    main_of("synthesize")
