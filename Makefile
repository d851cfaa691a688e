# Everything here makes its own environment (.venv, from constraints.txt) and needs only Python and make.
PYTHON ?= python3
BIN := .venv/bin
.PHONY: quickstart test lint bench bench-labeling clean

.venv/.complete: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("alignkit needs Python 3.11 or newer: make PYTHON=python3.12 …")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

quickstart: .venv/.complete  ## base model -> SFT -> reward -> DPO and PPO -> evaluation, on a CPU in minutes
	$(BIN)/alignkit quickstart

test: .venv/.complete  ## everything but what is marked slow or gpu
	$(BIN)/python -m pytest -n 2 --dist loadfile -q --durations 15

lint: .venv/.complete
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: .venv/.complete  ## the tables of docs/benchmarks.md, from the JSON that the benchmark scripts wrote
	$(BIN)/python benchmarks/tables.py

bench-labeling: .venv/.complete  ## 200 annotators for 10 minutes, 20 kills, on both databases: 40 minutes of a machine for itself
	$(BIN)/python benchmarks/labeling.py
	$(BIN)/python benchmarks/tables.py

clean:
	rm -rf .venv runs
