# Two commands need nothing but git, make and Python >= 3.11:
#   make demo   a real study on real data
#   make test   everything that is checked
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
# The tests start hundreds of processes, which would each compile hpo anew where this is set.
export PYTHONDONTWRITEBYTECODE :=

.DEFAULT_GOAL := help
.PHONY: help demo test lint format unit fuzz bench clean

help:
	@echo "make demo    install and run a real study ($(VENV))"
	@echo "make test    lint, types, import rules and every test"
	@echo "make lint    ruff, mypy, import-linter"
	@echo "make format  let ruff format and fix"
	@echo "make fuzz    property tests with random examples, 10 times as long"
	@echo "make bench   the benchmarks, quick"

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "hpo needs Python >= 3.11: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.user: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) install --quiet --constraint constraints.txt --editable .
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@ $(VENV)/.user

$(VENV)/.bench: $(VENV)/.dev
	$(PIP) install --quiet --constraint constraints.txt --editable '.[bench]'
	@touch $@

demo: $(VENV)/.user
	mkdir -p demo
	cd demo && ../$(BIN)/hpo run ../examples/digits.yaml
	@echo
	@echo "The study is in demo/. Look at it:"
	@echo "  cd demo && ../$(BIN)/hpo trials digits-mlp"
	@echo "  cd demo && ../$(BIN)/mlflow ui       then open http://127.0.0.1:5000"

test: lint unit

lint: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# Twice as many tests at once as there are cores: many wait for servers, and for processes that were
# killed. A file's tests stay together and share their fixtures.
JOBS ?= $(shell $(PYTHON) -c 'import os; print(min(2 * (os.cpu_count() or 1), 16))')
unit: $(VENV)/.dev
	$(BIN)/pytest -n $(JOBS) --dist loadfile

# Hypothesis prints what fails and how to repeat it: add it to the test as an @example.
fuzz: $(VENV)/.dev
	for round in 1 2 3 4 5 6 7 8 9 10; do \
	    $(BIN)/pytest -q -n auto -m hypothesis --hypothesis-profile fuzz || exit; \
	done

bench: $(VENV)/.bench
	$(BIN)/python -m benchmarks.overhead --quick
	$(BIN)/python -m benchmarks.spaces --quick
	$(BIN)/python -m benchmarks.storage --quick
	$(BIN)/python -m benchmarks.priors --quick
	$(BIN)/python -m benchmarks.training --quick

clean:
	rm -rf $(VENV) demo build *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
