"""Looks whether all is there that the jobs need, and says how to mend what is not. Writes nothing that stays.

spark-submit jobs/doctor.py --config conf/demo.yaml --set key.sub=value
"""

from foretaste.command import main_of

if __name__ == "__main__":
    main_of("doctor")
