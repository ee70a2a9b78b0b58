"""Users → out of every table, quarantine, older versions and the vault, and a search that shows it.

spark-submit jobs/erase.py --config conf/demo.yaml --set privacy.erase.users=leavers.txt
"""

from foretaste.command import main_of

if __name__ == "__main__":
    main_of("erase")
