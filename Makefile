# Everything runs in .venv, which the first target makes. Needs Python >= 3.10 with venv.

PYTHON ?= python3
VENV := .venv
KILLS ?= 1000
SECONDS ?= 600
BIN := $(VENV)/bin

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help demo test soak fuzz check docs bench format clean

help:
	@echo "make demo    start the example app on a free port of this machine"
	@echo "make test    run the tests"
	@echo "make soak    kill and stop servers that share a spool again and again, and see that nothing is lost; KILLS=10000"
	@echo "make fuzz    look for forms, names and records that break what reads them; SECONDS=600"
	@echo "make check   run every check: style, types, coverage, all versions, the wheel, the docs"
	@echo "make docs    make the site of the docs, in site/"
	@echo "make bench   measure, beside what it replaces, into docs/benchmarks; ARGS=\"parse --rounds 5\""
	@echo "make format  put the code in the project's style"
	@echo "make clean   remove the environments and all caches"

demo: $(VENV)/.demo
	@$(BIN)/python -m examples.gallery

test: $(VENV)/.test
	$(BIN)/python -m pytest

soak: $(VENV)/.test
	$(BIN)/python -m tests.soak --kills $(KILLS)
	$(BIN)/python -m pytest -m soak

fuzz: $(VENV)/.fuzz
	$(BIN)/python -m tests.fuzzing --seconds $(SECONDS)

check: $(VENV)/.check
	$(BIN)/nox --parallel auto

docs: $(VENV)/.site
	$(BIN)/zensical build --strict

bench: $(VENV)/.bench $(VENV)/peers/.peers
	$(BIN)/python -m benchmarks --write docs/benchmarks $(ARGS)

format: $(VENV)/.lint
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

clean:
	rm -rf $(VENV) .nox .coverage .coverage.* .fuzzing .hypothesis .mypy_cache .pytest_cache .ruff_cache dist site
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The package and one group of pyproject.toml; installed anew when that file changes.
$(VENV)/.%: pyproject.toml $(VENV)/pip
	@echo "Installing what \"$*\" needs ..."
	@$(BIN)/python -m pip install --quiet --editable . --group $*
	@touch $@

# What the benchmarks are run beside: libraries that must not meet the others.
$(VENV)/peers/.peers: pyproject.toml $(VENV)/pip
	@echo "Installing the peers ..."
	@$(PYTHON) -m venv --without-pip $(VENV)/peers
	@$(BIN)/python -m pip --python $(VENV)/peers install --quiet --group peers
	@touch $@

# Dependency groups need pip >= 25.1.
$(VENV)/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Python >= 3.10 is needed: make PYTHON=...")'
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --upgrade pip
	@touch $@
