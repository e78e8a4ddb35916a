# Two targets set everything up by themselves: `make quickstart` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
TRAINERS := .venv-trainers
SOURCES := .venv-sources
RUN := runs/quickstart

.PHONY: install quickstart test lint test-slow test-browser test-trainers test-sources bench bench-fit experiments clean

install: $(VENV)/installed

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

quickstart: install
	$(BIN)/mutransfer sweep-proxy quickstart -o $(RUN) > /dev/null
	$(BIN)/mutransfer fit-exponents $(RUN) -o $(RUN)/exponents.yaml
	$(BIN)/mutransfer transfer $(RUN)/exponents.yaml --width 4096 -o $(RUN)/recipe.yaml
	@echo "recipe for width 4096: $(RUN)/recipe.yaml"

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# two processes with one thread each, because threads of one process wait for each other on small tensors
test: lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m 'not slow and not timed and not browser and not trainers and not sources'
	$(BIN)/python -m pytest -m timed

test-slow: install
	$(BIN)/python -m pytest -m slow

# opens reports in headless Chromium; installs it if that needs no password, otherwise the tests are skipped
test-browser: install
	@command -v chromium chromium-browser google-chrome > /dev/null \
	  || { [ "$$(id -u)" = 0 ] && apt-get install -qq -y --no-install-recommends chromium; } \
	  || { command -v sudo apt-get > /dev/null && sudo -n apt-get install -qq -y chromium; } \
	  || echo "Chromium cannot be installed here: the browser tests are skipped"
	$(BIN)/python -m pytest -m browser

# tries emitted files in the real trainers, in an environment of their own
test-trainers: $(TRAINERS)/installed
	$(TRAINERS)/bin/python -m pytest -m trainers tests/trainers

$(TRAINERS)/installed: pyproject.toml trainers.txt trainers-alone.txt
	$(PYTHON) -m venv $(TRAINERS)
	$(TRAINERS)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e . -r trainers.txt
	$(TRAINERS)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r trainers-alone.txt
	touch $@

# reads what the real loggers leave on the disk, in an environment of their own
test-sources: $(SOURCES)/installed
	$(SOURCES)/bin/python -m pytest -m sources tests/sources

$(SOURCES)/installed: pyproject.toml sources.txt sources-alone.txt
	$(PYTHON) -m venv $(SOURCES)
	$(SOURCES)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e . -r sources.txt
	$(SOURCES)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r sources-alone.txt
	touch $@

bench: install
	$(BIN)/python -m benchmarks.fused_sweep
	$(BIN)/python -m benchmarks.million_records
	$(BIN)/python -m benchmarks.local_workers
	$(BIN)/python -m benchmarks.quickstart
	$(BIN)/python -m benchmarks.ray_scaling
	$(BIN)/python -m benchmarks.diagnostics_cost
	$(BIN)/python -m benchmarks.coordinates

bench-fit: install
	$(BIN)/python -m benchmarks.fit_coverage
	$(BIN)/python -m benchmarks.fit_sweeps
	$(BIN)/python -m benchmarks.fit_edges
	$(BIN)/python -m benchmarks.joint_coverage
	$(BIN)/python -m benchmarks.fit_cost
	$(BIN)/python -m benchmarks.check_errors

experiments: install
	$(BIN)/python -m benchmarks.experiments run

clean:
	rm -rf $(VENV) $(TRAINERS) $(SOURCES) runs dist .mypy_cache .ruff_cache .pytest_cache
