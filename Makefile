# Foretaste. Every target sets up what it needs first; the second time that takes no time.
CONFIG ?= conf/demo.yaml
# What is packed for a cluster: the extras of setup.py in the environment, and where the cluster's machines have their Python 3.11.
EXTRAS ?= demo uses
PYTHON_PREFIX ?=
DIST ?= dist
# Two processes, each with a Spark of its own, share the test files.
SHARED_OUT := -n 2 --dist loadfile --no-loadscope-reorder
SITE := .venv/lib/python3.11/site-packages

export PATH := $(CURDIR)/.venv/bin:$(PATH)
# Another Spark or Python on this machine is not ours.
unexport SPARK_HOME SPARK_CONF_DIR PYSPARK_PYTHON PYSPARK_DRIVER_PYTHON PYTHONPATH PYTHONHOME

.DEFAULT_GOAL := help
.PHONY: help set-up demo notebooks test test-fast lint browser package zip environment wheel locked lock reference clean
.NOTPARALLEL:

help: ## what can be made
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | while IFS="$$(printf '\t')" read -r name what; do printf '  make %-10s %s\n' "$$name" "$$what"; done

set-up: ## install all that is missing; the other targets do it too
	@bash set-up.sh

demo: set-up ## run the main job on the demo data, or on CONFIG=conf/….yaml
	@python jobs/pipeline.py --config $(CONFIG)

test: lint browser ## everything that must hold: style, types, walls, tests
	@python -m pytest $(SHARED_OUT)

test-fast: lint ## the same without the tests that start a cluster
	@python -m pytest $(SHARED_OUT) -m "not cluster"

lint: set-up ## style, types, and who may import whom
	@ruff check --quiet .
	@ruff format --check --quiet .
	@mypy --no-error-summary
	@lint-imports --no-logo

# A test looks at the report through a browser's eyes. Without one, and without the right to install it, that test is left out, and says so.
browser:
	@command -v chromium >/dev/null || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && { apt-get install -y --no-install-recommends chromium || { apt-get update && apt-get install -y --no-install-recommends chromium; }; }; } >build/browser.log 2>&1 </dev/null || echo "no Chromium here: the report is not looked at"

notebooks: set-up ## run the notebooks on CONFIG, and render them with their pictures into dist/notebooks
	@foretaste notebooks --config $(CONFIG) --out $(DIST)/notebooks notebooks/*.py

package: set-up zip environment ## what a cluster needs; EXTRAS="demo uses" go in, PYTHON_PREFIX=/usr is where its machines have Python 3.11
	@du -h $(DIST)/*
	@echo 'spark-submit --master spark://HOST:7077 --properties-file conf/spark/cluster.conf \'
	@echo '  --py-files $(DIST)/foretaste.zip --archives $(DIST)/environment.tar.gz#environment \'
	@echo '  --conf spark.pyspark.python=./environment/bin/python --conf spark.pyspark.driver.python=$$PWD/.venv/bin/python \'
	@echo '  jobs/pipeline.py --config $(CONFIG)'

# A zip, since executors do not import from a wheel that --py-files brings.
zip:
	@rm -rf build/lib && mkdir -p $(DIST)
	@python setup.py --quiet build_py --no-compile --build-lib build/lib
	@cd build/lib && python -m zipfile -c $(abspath $(DIST))/foretaste.zip foretaste

wheel: set-up locked ## what Databricks needs, which brings Spark itself: the package as a wheel, and dist/runtime.lock
	@rm -rf build/bdist.* build/lib $(DIST)/*.whl
	@FORETASTE_WHEEL=runtime python setup.py --quiet bdist_wheel --dist-dir $(DIST) 2>build/wheel.log || { cat build/wheel.log; exit 1; }
	@ls $(DIST)/*.whl $(DIST)/runtime.lock

# The lock without the tools of development.
locked:
	@mkdir -p $(DIST)
	@uv pip compile --quiet --python .venv/bin/python --no-build-isolation --no-annotate --no-header $(addprefix --extra ,$(EXTRAS)) -c requirements.lock setup.py -o $(DIST)/runtime.lock >/dev/null

# In an environment of its own: venv-pack refuses one that points to a checkout.
environment: locked
	@rm -rf build/environment
	@uv venv --quiet --python .venv/bin/python build/environment
	@uv pip sync --quiet --python build/environment/bin/python --find-links $$(sed -n 3p .venv/set-up.stamp) --only-binary horovod $(DIST)/runtime.lock
	@cp $(SITE)/pyspark/jars/delta-*.jar build/environment/lib/python3.11/site-packages/pyspark/jars/
	@echo "packing $$(du -sh build/environment | cut -f 1) into $(DIST)/environment.tar.gz: 3 to 7 minutes, most of it CUDA's libraries"
	@venv-pack --quiet --force --prefix build/environment --compress-level 1 $(if $(PYTHON_PREFIX),--python-prefix $(PYTHON_PREFIX)) --output $(DIST)/environment.tar.gz
	@chmod a+r $(DIST)/environment.tar.gz && rm -rf build/environment

lock: set-up ## compile requirements.lock anew from setup.py, keeping its versions where they still fit
	@uv pip compile setup.py --all-extras --python-version 3.11 --no-emit-index-url --custom-compile-command "make lock" --quiet -o requirements.lock

reference: set-up ## write docs/reference.md anew from the code
	@python -m foretaste.reference > docs/reference.md

clean: ## remove what make built, but not .venv or the caches
	@rm -rf build $(DIST) lib/*.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache spark-warehouse metastore_db derby.log
	@find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
