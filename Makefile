PYTHON ?= python3
VENV := .venv
ifeq ($(OS),Windows_NT)
BIN := $(VENV)/Scripts
else
BIN := $(VENV)/bin
endif
INSTALLED := $(VENV)/installed
SEEDS ?= 200

.PHONY: install demo test lint format soak bench

install: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[dev]" --constraint constraints.txt
	$(BIN)/python -c "open('$(INSTALLED)', 'w').close()"

# ARGS: what the demo's own options say, e.g. ARGS='--server http://127.0.0.1:8188'
demo: install
	$(BIN)/python -m promptmill demo $(ARGS)

test: install
	$(BIN)/python -m pytest -m "not soak" $(ARGS)

soak: install
	$(BIN)/python -m pytest -m soak --soak-seeds $(SEEDS) $(ARGS)

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python tests/typecheck.py

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: install
	$(BIN)/python -m benchmarks $(ARGS)
