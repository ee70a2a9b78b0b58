"""events → sessions.

spark-submit jobs/sessionize.py --config conf/demo.yaml --set key.sub=value
"""

from foretaste.steps.sessionize import sessionize

from foretaste.job import run

if __name__ == "__main__":
    run(sessionize)
