# Two commands for a newcomer: `make run` and `make test`. Both make .venv first, if it is not there yet.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
NAME ?= default
WORKERS ?= 2
EXAMPLES ?= 10000
SEED ?= 0

.PHONY: run test properties lint types layers wheel-smoke bench check clean

run: $(VENV)/.installed
	$(BIN)/spi run --out runs/$(NAME)

test: $(VENV)/.installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

# Every bound against EXAMPLES random chains; counts and least slacks go to docs/properties.md.
properties: $(VENV)/.installed-dev
	rm -rf build/properties
	OMP_NUM_THREADS=1 SPI_PROPERTY_EXAMPLES=$(EXAMPLES) SPI_PROPERTY_RECORD=build/properties \
		$(BIN)/python -m pytest tests/properties/test_laws.py -q -n $(WORKERS) --dist worksteal --hypothesis-seed=$(SEED)
	$(BIN)/python -m tests.properties.record build/properties docs/properties.md

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.installed-dev
	$(BIN)/pyright

layers: $(VENV)/.installed-dev
	$(BIN)/lint-imports

wheel-smoke: $(VENV)/.installed-dev
	$(BIN)/python tests/wheel_smoke.py

# Each prints its ratio to a peer timed in the same run, and the limit it should keep.
bench: $(VENV)/.installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest benchmarks -q -s

check: lint types layers wheel-smoke test

clean:
	rm -rf $(VENV) build dist .pytest_cache .ruff_cache .import_linter_cache

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "spi needs Python 3.11 or later; try: make run PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
		echo "python3 cannot make a virtual environment; on Debian: apt-get install python3-venv" >&2; exit 1; }

# Editable, so that the checkout is what runs; constraints.txt pins every version that the figures were made with.
$(VENV)/.installed: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet -c constraints.txt -e .
	@touch $@

$(VENV)/.installed-dev: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[dev]"
	@touch $@ $(VENV)/.installed
