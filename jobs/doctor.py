"""Looks whether all is there that the jobs need, and says how to mend what is not. Writes nothing that stays.

spark-submit jobs/doctor.py --config conf/demo.yaml --set key.sub=value
"""

from foretaste.job import diagnose

if __name__ == "__main__":
    diagnose()
