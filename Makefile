PYTHON ?= python3
VENV := .venv
ifeq ($(OS),Windows_NT)
BIN := $(VENV)/Scripts
else
BIN := $(VENV)/bin
endif
INSTALLED := $(VENV)/installed
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable
SEEDS ?= 200
WORKERS ?= 4

.PHONY: install demo test lint format soak bench

install: $(INSTALLED)

# PyPI's PyTorch for Linux brings several GB for NVIDIA cards; where there is none, PyTorch's own index has it without.
$(BIN)/python:
	$(PYTHON) -m venv $(VENV)
	@[ "$$(uname -s)" != Linux ] || command -v nvidia-smi >/dev/null || \
		$(BIN)/python -m pip install --quiet --no-deps --retries 0 --timeout 15 \
		--index-url https://download.pytorch.org/whl/cpu "$$(grep ^torch== constraints.txt)" 2>/dev/null || true

$(INSTALLED): pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) ".[dev]"
	$(BIN)/python -c "open('$(INSTALLED)', 'w').close()"

$(INSTALLED)-demo: pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) ".[driver,engine]"
	$(BIN)/python -c "open('$(INSTALLED)-demo', 'w').close()"

# ARGS: what the demo's own options say, e.g. ARGS='--server http://127.0.0.1:8188'
demo: $(INSTALLED)-demo
	$(BIN)/python -m promptmill demo $(ARGS)

# Waiting threads of one process would slow the others down (docs/performance.md).
test: install
	OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m pytest -m "not soak" --numprocesses $(WORKERS) --dist loadfile $(ARGS)

soak: install
	$(BIN)/python -m pytest -m soak --soak-seeds $(SEEDS) $(ARGS)

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python tests/typecheck.py
	@if command -v npm >/dev/null; then \
		npm install --no-package-lock --silent --no-audit --no-fund --prefix tests/web && tests/web/node_modules/.bin/tsc -p tests/web; \
	else echo "NOT RUN: the types of web/, which need npm"; fi

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: install
	$(BIN)/python -m benchmarks $(ARGS)
