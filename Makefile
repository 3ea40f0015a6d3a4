# Every target works on a fresh clone with nothing but Python 3.11+ and pip.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

# Hundreds of the tests' processes would compile what they import, each for itself.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help setup demo demo-queue example test test-slow test-pooler image-test chaos audit lint lint-deploy fix model mutants bench clean simulate

help:            ## this list
	@grep -hE '^[a-z-]+: .*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

setup: $(READY)  ## make .venv and install the project into it

$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "jobsync needs Python 3.11 or newer: make PYTHON=python3.12 ...")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing jobsync and its tools into $(VENV) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@

demo: $(READY)   ## the main job: a fleet, real input, a kill, a verdict
	@$(BIN)/jobsync demo

demo-queue: $(READY)  ## the queue: real files, a worker killed with jobs in hand, a verdict
	@$(BIN)/jobsync demo-queue

example: $(READY)  ## run an example that judges itself: make example NAME=daily_etl
	@$(BIN)/python $(firstword $(wildcard examples/$(NAME)/play.py examples/$(NAME).py) examples/$(NAME))

test: lint lint-deploy  ## lint, then every test but the slow ones
	@$(BIN)/python -m pytest -n 5 --dist worksteal -m 'not slow'

docs: $(READY)   ## build the site into build/site; a broken link fails
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

test-slow: $(READY)  ## the tests that take minutes
	@$(BIN)/python -m pytest -n 2 -m slow

test-pooler: $(READY)  ## what goes through PgBouncer (Debian's package, which this installs as root)
	@command -v pgbouncer > /dev/null || test -x /usr/sbin/pgbouncer || apt-get install -y -qq pgbouncer
	@$(BIN)/python -m pytest tests/chaos/test_pooler.py

image-test: $(READY)  ## the image built, and run by Docker: alone, by the Compose file, as pods (no Docker: Debian's, as root)
	@$(BIN)/python -m tests.deploy.engine

chaos: $(READY)  ## real processes in bad weather: make chaos MINUTES=30 (as root with iptables: DROP and RST too)
	@command -v iptables > /dev/null || test -x /usr/sbin/iptables || apt-get install -y -qq iptables || true
	@command -v faketime > /dev/null || apt-get install -y -qq faketime || true
	@$(BIN)/python -m tests.chaos.long_run $(or $(MINUTES),30) $(SEED)

audit: $(READY)  ## known vulnerabilities of the dependencies; pip-audit itself says what it has no data for
	@test -x $(VENV)/audit/bin/pip-audit || ($(PYTHON) -m venv $(VENV)/audit && $(VENV)/audit/bin/pip install --quiet pip-audit)
	@$(VENV)/audit/bin/pip-audit --progress-spinner off --path $$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')

lint: $(READY)   ## style, types, and who may import whom
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --quiet --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache > $(VENV)/imports.log 2>&1 || { cat $(VENV)/imports.log; exit 1; }

lint-deploy: $(VENV)/deploy/.ready  ## the files of deploy/: YAML, Kubernetes, Compose, Dockerfile, systemd
	@$(VENV)/deploy/bin/python deploy/lint.py

$(VENV)/deploy/.ready: deploy/requirements-lint.txt | $(READY)
	@$(PYTHON) -m venv $(VENV)/deploy
	@$(VENV)/deploy/bin/pip install --quiet --disable-pip-version-check -r deploy/requirements-lint.txt
	@touch $@

fix: $(READY)    ## let ruff mend what it can
	@$(BIN)/ruff check --quiet --fix .
	@$(BIN)/ruff format --quiet .

simulate: $(READY)  ## seeded faults in virtual time, all invariants judged: make simulate SEEDS=10000 FIRST=0
	@$(BIN)/jobsync simulate --seeds $(or $(SEEDS),10000) $(if $(FIRST),--first $(FIRST))

model:           ## explore the models of the ownership protocol (Debian's spin and gcc, which it installs where it may)
	@command -v spin > /dev/null || apt-get install -y -qq spin gcc
	@$(PYTHON) model/check.py --table build/model.md

mutants: $(READY)  ## break the core one line at a time and see whether a test notices: make mutants SAMPLE=20
	@$(BIN)/python -m tests.mutants --sample $(or $(SAMPLE),0)

bench: $(READY)  ## measure the figures that the README gives
	@$(BIN)/python -m bench

clean:           ## remove what the targets made
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
