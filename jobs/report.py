"""Tables and models → one HTML page for people: data, sessions, models and what they are worth, demand, what changed, ten users.

spark-submit jobs/report.py --config conf/demo.yaml --set report.path=report.html
"""

from foretaste.command import main_of

if __name__ == "__main__":
    main_of("report")
