"""Tables as they should lie: small files joined and clustered, and those removed that no version needs any more.

spark-submit jobs/maintain.py --config conf/demo.yaml --set maintenance.keep=30d
"""

from foretaste.command import main_of

if __name__ == "__main__":
    main_of("maintain")
