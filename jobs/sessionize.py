"""events → sessions.

spark-submit jobs/sessionize.py --config conf/demo.yaml --set key.sub=value
"""

from foretaste.job import run
from foretaste.steps.sessionize import sessionize

if __name__ == "__main__":
    run(sessionize)
