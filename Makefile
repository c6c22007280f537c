# Each target does its own set-up in .venv of this checkout.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
# A file's tests on one of as many workers as there are cores; what is of real clocks and sockets runs alone, afterwards.
PARALLEL := -n auto --dist loadfile
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

.PHONY: run test test-all check clean

run: $(VENV)/run.stamp
	$(BIN)/foveate run wide_area --duration 12s

test: $(VENV)/dev.stamp
	$(BIN)/python -m pytest -m "not heavy and not live" $(PARALLEL)
	$(BIN)/python -m pytest -m "live and not heavy"

# Adds what needs torch or other people's decoders, and the tests that take long.
test-all: $(VENV)/all.stamp
	$(BIN)/python -m pytest -m "heavy and not live" $(PARALLEL)
	$(BIN)/python -m pytest -m "heavy and live"

check: $(VENV)/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

$(VENV)/bin/python:
	@command -v $(PYTHON) >/dev/null || { echo "needs Python 3.11 or newer; say which: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/run.stamp: pyproject.toml | $(VENV)/bin/python
	$(PIP) install -e '.[sim]'
	@touch $@

$(VENV)/dev.stamp: pyproject.toml | $(VENV)/bin/python
	$(PIP) install -e '.[dev]'
	@touch $@ $(VENV)/run.stamp

# The version that the networks were trained with; a plain `torch` may bring gigabytes of CUDA libraries, a plain `open3d`
# (1.2 GB) those of CUDA too; `open3d-cpu` (0.6 GB) is the same module, for x86 alone.
$(VENV)/all.stamp: $(VENV)/dev.stamp
	$(PIP) install torch==2.13.0
	$(PIP) install -e '.[dev,train]'
	$(PIP) install open3d-cpu || $(PIP) install open3d || echo "open3d is not installed; the tests of TSDF meshes skip"
	$(PIP) install dv-processing faery || echo "event decoders to compare with are not installed; those tests skip"
	@touch $@

clean:
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
