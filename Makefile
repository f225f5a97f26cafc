# make demo   sets everything up, runs the whole path on data made on the spot, prints the report's path
# make test   sets everything up, checks and tests
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
BESIDE := $(VENV)/.beside
TOGETHER := --numprocesses=2 --dist=loadgroup --no-loadscope-reorder

.PHONY: demo test quick architecture bench bench-full bench-search bench-statistics chaos chaos-full lint clean

demo: $(READY)
	$(BIN)/eus-ray demo --out "$$(mktemp -d)/demo"

# LONG=1, as in continuous integration: Slurm, clusters of several nodes and a network that is added, too
test: lint
	$(BIN)/pytest $(TOGETHER) $(if $(LONG),,-m "not long") --durations=10

quick: $(READY)
	$(BIN)/pytest $(TOGETHER) -m "not ray and not slow"

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# the rooms as the imports have them, and their picture in ARCHITECTURE.md
architecture: $(READY)
	$(BIN)/python -m tests.architecture --write

bench: $(BESIDE)
	$(BIN)/python -m tests.benchmarks

bench-full: $(BESIDE)
	$(BIN)/python -m tests.benchmarks --full

bench-search: $(READY)
	$(BIN)/python -m tests.benchmarks search --full

bench-statistics: $(READY)
	$(BIN)/python -m tests.benchmarks statistics --full

chaos: $(READY)
	$(BIN)/python -m tests.benchmarks.chaos --faults 20

chaos-full: $(READY)
	$(BIN)/python -m tests.benchmarks.chaos --faults 50

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "$(PYTHON) is older than Python 3.11; set PYTHON=..."; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

# what only a benchmark compares with; it says so of one that cannot be had here
$(BESIDE): $(READY)
	-$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev,bench]' && touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
