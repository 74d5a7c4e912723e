# `make parity` and `make test` do everything on a fresh machine with Python 3.10 to 3.12 and make.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: parity test slow docs clean

parity: $(READY)  ## build one RMSProp in four frameworks and compare each with the NumPy reference
	$(BIN)/unirms parity

test: $(READY)  ## lint, types, and the fast tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest

slow: $(READY)  ## the tests that take minutes: the whole parity report, longer fuzzing
	$(BIN)/pytest --slow -m slow

docs: $(READY)  ## write the generated parts of the documentation again
	$(BIN)/python docs/generate.py

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info
