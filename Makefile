# make reproduce: sets up everything and runs the main study; make test: sets up everything and runs the tests.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
TORCH := $(shell sed -n 's/^torch==//p' constraints.txt)
SCALE ?= toy
OUT ?= runs/reproduce/hoffmann-$(SCALE)
WORKERS ?=

.PHONY: help reproduce test check benchmarks docs install clean

help:
	@sed -n 's/^# //p' Makefile
	@echo "make check: ruff and mypy; make benchmarks: tables in results/benchmarks; make docs: docs/laws.md and docs/objectives.md; make clean: removes $(VENV)"

reproduce: install
	$(BIN)/scaling reproduce hoffmann --scale $(SCALE) --out $(OUT) $(if $(WORKERS),--workers $(WORKERS))
	@echo "Study in $(OUT)/README.md; the committed one is results/hoffmann-$(SCALE)/README.md"

#: Tests that start Ray or bound processor time want the machine for themselves; the others run one process a core.
test: install
	$(BIN)/python -m pytest -m "not (ray or alone)" --numprocesses auto --dist loadfile --no-loadscope-reorder
	$(BIN)/python -m pytest -m "ray or alone"

check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

benchmarks: install
	$(BIN)/python -m tests.benchmarks

docs: install
	$(BIN)/python -m analysis.laws_page docs
	$(BIN)/python -m scaling.objectives_page docs

install: $(VENV)/installed

$(VENV)/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or later is needed; set PYTHON=/path/to/python3.11"; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' || \
	  { echo "The venv module is missing (Debian, Ubuntu: apt install python3-venv)"; exit 1; }
	@command -v g++ >/dev/null || command -v clang++ >/dev/null || \
	  echo "No C++ compiler: everything works, slower (Debian, Ubuntu: apt install g++ python3-dev)"
	$(PYTHON) -m venv $(VENV)
	@# Where there is no GPU, the CPU build of torch: a tenth of the size. It may lie in a local index or at PyTorch's.
	@if command -v nvidia-smi >/dev/null || [ "$$(uname)" != Linux ]; then $(PIP) torch==$(TORCH); \
	else $(PIP) torch==$(TORCH)+cpu 2>/dev/null \
	  || $(PIP) --index-url https://download.pytorch.org/whl/cpu --retries 1 --timeout 15 torch==$(TORCH) 2>/dev/null \
	  || $(PIP) torch==$(TORCH); fi
	$(PIP) --editable '.[test]'
	@touch $@

clean:
	rm -rf $(VENV)
