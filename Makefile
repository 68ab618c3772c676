# One word for each habit. Each makes what it needs first: a virtual environment in .venv, with pinned versions.
# On a bare machine: git, make and Python 3.11 or newer. PYTHON=… chooses another interpreter for .venv.

BIN := .venv/bin
WORKERS ?= 2
PYTEST_ARGUMENTS ?=
BENCH_ARGUMENTS ?=
TORTURE_ARGUMENTS ?=
SOURCES := src tests docs requirements hatch_build.py $(wildcard bench examples)

export PYTHON GC3PIE_PYTHON
unexport PYTHONPATH PYTHONHOME

# An environment whose interpreter is gone, or that was made for another folder, counts as not there.
ifneq ($(wildcard .venv/run.stamp),)
ifneq ($(shell grep -qsF -- "$(CURDIR)/.venv" .venv/pyvenv.cfg && $(BIN)/python -c 'print("whole")' 2>/dev/null),whole)
$(shell rm -f .venv/run.stamp .venv/dev.stamp)
endif
endif
ifneq ($(wildcard .venv-bench/bench.stamp),)
ifneq ($(shell grep -qsF -- "$(CURDIR)/.venv-bench" .venv-bench/pyvenv.cfg && .venv-bench/bin/python -c 'print("whole")' 2>/dev/null),whole)
$(shell rm -f .venv-bench/bench.stamp)
endif
endif

.DEFAULT_GOAL := help
.PHONY: help demo test torture check format bench docs lock clean

help:  ## show these lines
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/make \1\t\2/p' Makefile

demo: .venv/run.stamp .venv/kernels.stamp  ## run the main job: survey the standard library, fail, fix, re-run
	@$(BIN)/perdure demo

test: .venv/dev.stamp .venv/kernels.stamp  ## run every test; PYTEST_ARGUMENTS="-k name" for some
	@$(BIN)/python -m pytest -n $(WORKERS) $(PYTEST_ARGUMENTS)

torture: .venv/dev.stamp .venv/kernels.stamp  ## crashes, histories and hostile data with ever other seeds; TORTURE_ARGUMENTS="--minutes 60"
	@$(BIN)/python tests/torture.py $(TORTURE_ARGUMENTS)

check: .venv/dev.stamp .venv/kernels.stamp  ## format, lint, types, floors, tidiness
	@$(BIN)/ruff format --check $(SOURCES)
	@$(BIN)/ruff check $(SOURCES)
	@$(BIN)/mypy
	@$(BIN)/python -m pytest -q tests/test_floors.py tests/test_tidy.py

format: .venv/dev.stamp  ## put the code into the house's format
	@$(BIN)/ruff check --select I --fix $(SOURCES)
	@$(BIN)/ruff format $(SOURCES)

bench: .venv-bench/bench.stamp .venv/kernels.stamp  ## measure beside rivals, print the table; BENCH_ARGUMENTS="--only save"
	@.venv-bench/bin/python bench/run.py $(BENCH_ARGUMENTS)

docs: .venv/dev.stamp  ## build the pages into docs/_build/html
	@$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build/html
	@echo "docs/_build/html/index.html"

lock: .venv/run.stamp  ## pin anew what pyproject.toml asks for (with the oldest Python)
	@$(BIN)/python requirements/lock.py

clean:  ## remove the environment and all that was built
	@rm -rf .venv .venv-bench docs/_build build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis

.venv/run.stamp: pyproject.toml requirements/run.txt requirements/build.txt requirements/environment.sh
	@requirements/environment.sh run

.venv/kernels.stamp: .venv/run.stamp hatch_build.py $(wildcard src/perdure/kernels/*.[ch])
	@$(BIN)/python hatch_build.py
	@touch $@

.venv/dev.stamp: .venv/run.stamp requirements/dev.txt
	@requirements/environment.sh dev

.venv-bench/bench.stamp: pyproject.toml requirements/run.txt requirements/build.txt requirements/bench.txt requirements/environment.sh
	@requirements/environment.sh bench
