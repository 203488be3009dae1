# Two commands matter: `make demo` and `make test`. Both set everything up themselves, once.
.DEFAULT_GOAL := help
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
PYTHON ?= python3
BIN := .venv/bin
# The virtual environments below are the only ones meant, whatever the caller has active.
unexport VIRTUAL_ENV UV_PYTHON PYTHONPATH SPARK_HOME
export PATH := $(CURDIR)/$(BIN):$(PATH)
READY := .venv/.ready
AIRFLOW_READY := .venv-airflow/.ready
# Folder of the real data sets, which are never part of this repository.
FASHIONREC_DATA ?= ../shared/data
SCALE ?= 1

.PHONY: help setup demo test lint hm lock check docs clean
help: ## Show this list
	@grep -hE '^[a-z%-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

demo: $(READY) ## A synthetic shop from raw logs to recommendations, on this machine, in about ten minutes
	$(BIN)/fashionrec demo

hm: $(READY) ## The same pipeline on the H&M files in $(FASHIONREC_DATA)/hm
	$(BIN)/fashionrec import hm $(FASHIONREC_DATA)/hm --conf conf/hm.yaml
	$(BIN)/fashionrec run --conf conf/hm.yaml --run-date 2020-09-22

test: $(READY) $(AIRFLOW_READY) ## Run all tests
	$(BIN)/pytest -n 3 --dist loadfile --no-loadscope-reorder $(ARGS)

lint: $(READY) ## Check style, types and the layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench-data: $(READY) ## Seconds, memory and growth of the data stage, beside DuckDB and Polars [SCALE=0.1]; the last line is JSON
	$(BIN)/python benchmarks/data_stage.py --scale $(SCALE)

bench-%: $(READY) ## Run benchmarks/NAME.py [SCALE=0.1]; its last line is JSON
	$(BIN)/python benchmarks/$*.py --scale $(SCALE)

docs: $(READY) ## Write docs/tables.md, the data dictionary, from schemas/
	$(BIN)/fashionrec tables --markdown > docs/tables.md

setup: $(READY) $(AIRFLOW_READY) ## Install everything (the other targets do it themselves)

lock: $(READY) ## Resolve all requirements again
	requirements/lock.sh

clean: ## Remove the demo's and the H&M run's data
	rm -rf data

check:
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if (3, 11) <= v < (3, 13) else f"Python 3.11 or 3.12 is needed, $(PYTHON) is {v[0]}.{v[1]}: make PYTHON=python3.12 ...")'
	@$${JAVA_HOME:+$$JAVA_HOME/bin/}java -version 2>&1 | grep -qE 'version "(17|21)' || { echo "Java 17 is needed and was not found: install it (Debian: apt-get install openjdk-17-jre-headless) or set JAVA_HOME" >&2; exit 1; }

$(READY): requirements/dev.txt requirements/uv.txt pyproject.toml tools/delta_jars.py | check
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/uv.txt
	$(BIN)/uv pip sync --quiet --python $(BIN)/python --require-hashes --compile-bytecode requirements/dev.txt
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	$(BIN)/python tools/delta_jars.py 2>.venv/jars.log || { cat .venv/jars.log >&2; exit 1; }
	$(BIN)/python tools/delta_jars.py tests 2>.venv/test-jars.log || echo "The tests' HDFS cluster cannot be had, its tests are skipped: .venv/test-jars.log says why" >&2
	touch $@

$(AIRFLOW_READY): requirements/airflow.txt | $(READY)
	$(PYTHON) -m venv .venv-airflow
	$(BIN)/uv pip sync --quiet --python .venv-airflow/bin/python --require-hashes --compile-bytecode requirements/airflow.txt
	touch $@
