"""sessions → vocabulary and sequences.

spark-submit jobs/sequence.py --config conf/demo.yaml --set key.sub=value
"""

from foretaste.command import main_of

if __name__ == "__main__":
    main_of("sequence")
