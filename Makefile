# The two commands: `make run` (the example, end to end) and `make test`.
# Variables, given on the command line, for another Python, environment or build of torch:
#   make run PYTHON=python3.12 VENV=/somewhere/venv
#   make run TORCH=torch==2.13.0+cu130 PIP_ARGS="--extra-index-url URL"

PYTHON ?= python3
VENV ?= .venv
TORCH ?= $(shell sed -n 's/^torch==/&/p' requirements.lock)
PIP_ARGS ?=
JOBS ?= 3

BIN := $(abspath $(VENV))/bin
IN_VENV := PATH="$(BIN):$$PATH"
PIP := $(BIN)/python -m pip install --disable-pip-version-check -q $(PIP_ARGS)

.PHONY: help run smoke test test-long test-slurm slurm-up slurm-down lint lock clean

help:
	@echo "make run        the example experiment, end to end, in about five minutes"
	@echo "make smoke      the whole pipeline on one batch and one epoch, in one to two minutes"
	@echo "make test       the tests; make test-long: those that take minutes, too"
	@echo "make slurm-up   a private Slurm cluster of four nodes on this machine, for trials; make slurm-down: its end"
	@echo "make lint       ruff, mypy, and who imports whom"
	@echo "make clean      remove the environment"
	@echo "make lock       write the lock files anew from pyproject.toml"

run smoke: export MLLAM_MACHINE ?= local

run: $(VENV)/.installed
	$(IN_VENV) dvc exp run
	@$(IN_VENV) mllam-exps scores

smoke: $(VENV)/.installed
	$(IN_VENV) mllam-exps smoke

# A file's tests stay together: they share what is made once for them.
PYTEST := $(IN_VENV) python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder

test: $(VENV)/.installed-dev
	$(PYTEST) -m "not long"

test-long: $(VENV)/.installed-dev
	$(PYTEST)

test-slurm: $(VENV)/.installed-dev
	$(PYTEST) -m "slurm and not long"

slurm-up:
	@$(PYTHON) tools/slurm up $(if $(ACCOUNTING),--accounting) $(if $(PREEMPTION),--preemption)

slurm-down:
	@$(PYTHON) tools/slurm down

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# torch first and by itself: that is where a CPU or a CUDA build is chosen.
$(VENV)/.installed: requirements.lock pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing $(TORCH) …"
	@$(PIP) "$(TORCH)"
	@echo "installing the $$(grep -c == requirements.lock) packages of requirements.lock: some minutes …"
	@grep -v '^torch==' requirements.lock > $(VENV)/requirements.txt
	@$(PIP) -r $(VENV)/requirements.txt
	@$(PIP) --no-deps -e .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed requirements-dev.lock
	@echo "installing what the tests need …"
	@$(PIP) -r requirements-dev.lock
	@touch $@

lock:
	$(PYTHON) tools/lock.py

clean:
	rm -rf $(VENV)
