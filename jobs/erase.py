"""Users → out of every table, quarantine, older versions and the vault, and a search that shows it.

spark-submit jobs/erase.py --config conf/demo.yaml --set privacy.erase.users=leavers.txt
"""

from foretaste.job import run
from foretaste.steps.erase import erase

if __name__ == "__main__":
    run(erase)
