# The two commands: `make run` (the example, end to end) and `make test`.
# Variables, given on the command line, for another Python, environment or build of torch:
#   make run PYTHON=python3.12 VENV=/somewhere/venv
#   make run TORCH=torch==2.13.0+cu130 PIP_ARGS="--extra-index-url URL"

PYTHON ?= python3
VENV ?= .venv
TORCH ?= $(shell sed -n 's/^torch==/&/p' requirements.lock)
PIP_ARGS ?=
JOBS ?= 5

BIN := $(abspath $(VENV))/bin
IN_VENV := PATH="$(BIN):$$PATH"
PIP := $(BIN)/python -m pip install --disable-pip-version-check -q $(PIP_ARGS)

.PHONY: help run smoke compiled test test-again test-unit test-long test-slurm test-minimums coverage coverage-decides slurm-up slurm-down lint docs lock clean

help:
	@echo "make run        the example experiment, end to end, in about five minutes"
	@echo "make smoke      the whole pipeline on one batch and one epoch, in one to two minutes"
	@echo "make test       the tests; make test-unit: those of pure code, in seconds; make test-long: those that take minutes, too"
	@echo "make coverage   the tests, and which lines they run (make coverage-decides: of what decides, by unit tests: 95 % at least); make test-minimums: with the oldest versions that pyproject.toml allows"
	@echo "make slurm-up   a private Slurm cluster of four nodes on this machine, for trials; make slurm-down: its end"
	@echo "make lint       ruff, mypy, and who imports whom"
	@echo "make docs       the documentation as a site, in site/"
	@echo "make clean      remove the environment"
	@echo "make lock       write the lock files anew from pyproject.toml"

run smoke: export MLLAM_MACHINE ?= local

run: $(VENV)/.installed
	$(IN_VENV) dvc exp run
	@$(IN_VENV) mllam-exps scores
	@$(IN_VENV) mllam-exps report

smoke: $(VENV)/.installed
	$(IN_VENV) mllam-exps smoke

# A file's tests stay together: they share what is made once for them.
WORKERS := -n $(JOBS) --dist loadfile --no-loadscope-reorder
PYTEST := $(IN_VENV) python -m pytest $(WORKERS) --durations=10
TESTS ?= tests

test: compiled
	$(PYTEST) -m "not long"

# Where PYTHONDONTWRITEBYTECODE is set, each of the commands that tests start would compile all of it again: a
# quarter of its time.
compiled: $(VENV)/.installed-dev
	@$(BIN)/python -m compileall -q src tests/support

# Each by itself: what passes now did not bear the company of the others, and is to be mended, too.
test-again: compiled
	$(IN_VENV) python -m pytest --last-failed --last-failed-no-failures none --maxfail 3

test-unit: compiled
	$(IN_VENV) python -m pytest -n 2 tests/unit --durations=10

test-long: compiled
	$(PYTEST)

test-slurm: compiled
	$(PYTEST) -m "slurm and not long"

# Of a part: make coverage TESTS=tests/unit
coverage: $(VENV)/.installed-dev
	rm -f .coverage .coverage.*
	-$(IN_VENV) coverage run -m pytest $(WORKERS) -m "not long" $(TESTS)
	$(BIN)/coverage combine -q
	$(BIN)/coverage html -q
	$(BIN)/coverage report

# What decides what is run, known, tried again and told, and how much of it the unit tests have to run.
DECIDES := attempts/follow_up.py attempts/job_quota.py base/endings/*.py identity/*.py runs/state/assess.py runs/state/judge.py \
  submission/backlog.py submission/job_chain.py submission/names.py submission/planning.py submission/standing.py
COMMA := ,
EMPTY :=

coverage-decides: export COVERAGE_FILE := .coverage.decides
coverage-decides: compiled
	rm -f .coverage.decides*
	$(IN_VENV) coverage run -m pytest -q -n 2 tests/unit
	$(BIN)/coverage combine -q
	$(BIN)/coverage report --fail-under=95 --include="$(subst $(EMPTY) $(EMPTY),$(COMMA),$(addprefix src/mllam_exps/,$(DECIDES)))"

# What a login node needs, in the oldest versions that pyproject.toml allows; its stages run in $(VENV).
MINIMUMS := $(VENV)-minimums

test-minimums: $(MINIMUMS)/.installed $(VENV)/.installed
	STAGES_VENV="$(abspath $(VENV))" PATH="$(abspath $(MINIMUMS))/bin:$$PATH" python -m pytest $(WORKERS) tests/unit $(addprefix tests/integration/test_,submit.py lockfile.py)

$(MINIMUMS)/.installed: pyproject.toml tools/minimums.py
	@$(PYTHON) -m venv --clear $(MINIMUMS)
	@$(PYTHON) tools/minimums.py | tee $(MINIMUMS)/minimums.txt
	@$(MINIMUMS)/bin/python -m pip install --disable-pip-version-check -q -r $(MINIMUMS)/minimums.txt -e .
	@touch $@

slurm-up:
	@$(PYTHON) tools/slurm up $(if $(ACCOUNTING),--accounting) $(if $(PREEMPTION),--preemption)

slurm-down:
	@$(PYTHON) tools/slurm down

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python tools/house.py

docs: $(VENV)/.installed-dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build -q --strict
	@echo "site/index.html"

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
	rm -rf $(VENV) $(MINIMUMS) site htmlcov .coverage .coverage.*
