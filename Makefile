# make demo        install into .venv, fetch the detector and the example clip, run on it
# make test        style, types, structure and tests
# make test-full   the tests that take minutes: damage, memory, kills, a cluster
# make bench       how fast the network is on this machine

PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: demo test test-full bench format clean

demo: .venv/runtime
	$(BIN)/staf weights fetch yolo11n-pose example
	$(BIN)/staf run "$$($(BIN)/staf weights path example)" --side-view

# One thread a process: more of them than cores wait for each other.
test: .venv/test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/staf weights fetch --quiet yolo11n-pose
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m 'not full and not alone' --numprocesses 2 --dist loadfile
	$(BIN)/python -m pytest -m 'alone and not full'

test-full: .venv/full
	$(BIN)/staf weights fetch --quiet yolo11n-pose
	$(BIN)/python -m pytest -m full

bench: .venv/runtime
	$(BIN)/python -m tools.benchmark

format: .venv/test
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

.venv/runtime: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("staf needs Python 3.11 or newer: make PYTHON=python3.11 demo" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv .venv
	$(PIP) --editable .
	touch $@

.venv/test: .venv/runtime
	$(PIP) --editable '.[test]'
	touch $@

.venv/full: .venv/test
	$(PIP) --editable '.[test,ray,browser]'
	touch $@

clean:
	rm -rf .venv out dist build
