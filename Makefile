# make demo        install into .venv, fetch the detector and the example clip, run on it
# make test        style, types, structure, tests and their coverage
# make test-full   the tests that take minutes: damage, memory, kills, a cluster
# make bench       how fast the network is on this machine
# make format      format the code
# make clean       remove .venv and everything that was built
#
# This file makes the environment; the steps are in tools/tasks.py, which runs without make too.

PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
TASK := $(BIN)/python -m tools.tasks

.PHONY: demo test test-full bench format clean

demo: .venv/runtime
	$(TASK) $@

test: .venv/test
	$(TASK) $@

test-full: .venv/full
	$(TASK) $@

bench: .venv/runtime
	$(TASK) $@

format: .venv/test
	$(TASK) $@

.venv/runtime: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("staf needs Python 3.11 or newer: make PYTHON=python3.11 demo" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv .venv
	$(PIP) --editable '.[openvino]'
	touch $@

.venv/test: .venv/runtime
	$(PIP) --editable '.[openvino,test]'
	touch $@

.venv/full: .venv/test
	$(PIP) --editable '.[openvino,test,ray,browser]'
	touch $@

clean:
	rm -rf .venv out dist build
