"""user_latents → user_segments: groups of users that are alike, each with what sets it apart.

spark-submit jobs/segment.py --config conf/latents.yaml
"""

from foretaste.command import main_of

if __name__ == "__main__":
    main_of("segment")
