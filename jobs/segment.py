"""user_latents → user_segments: groups of users that are alike, each with what sets it apart.

spark-submit jobs/segment.py --config conf/latents.yaml
"""

from foretaste.job import run
from foretaste.steps.segment import segment

if __name__ == "__main__":
    run(segment)
