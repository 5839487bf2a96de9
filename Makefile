# Every command a contributor needs. `make help` lists them.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export CLUSTER ?= auto

.PHONY: help setup demo cluster images down lint format unit apiserver e2e programs matrix week promtool test bench bench-operator soak profile lock clean

help: ## List the commands
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

$(VENV)/.installed: requirements/dev.txt pyproject.toml
	@echo "Installing the Python packages into $(VENV) (about a minute, once) ..."
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

setup: $(VENV)/.installed ## Install the Python packages into .venv

demo: setup ## Start everything and bring one tunnel up, end to end
	@$(BIN)/python -m tunnel_dev demo

cluster: setup ## Start the development cluster alone
	@$(BIN)/python -m tunnel_dev cluster

images: setup ## Build the images of operator, forwarder and simulated Azure; no Docker, no cluster
	@$(BIN)/python -m tunnel_dev images

down: setup ## Stop and remove everything that demo, cluster or test started
	@$(BIN)/python -m tunnel_dev down

lint: setup ## Formatter, linter, types, import contracts
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

format: setup ## Rewrite the code as the formatter and the linter want it
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

unit: setup ## The tests that need nothing but Python
	@$(BIN)/python -m pytest -m "not apiserver and not e2e and not programs and not matrix and not slow"

apiserver: setup ## The operator against a real API server
	@$(BIN)/python -m pytest -m "apiserver and not matrix"

e2e: cluster ## Real node, real Pods, real Ingress
	@$(BIN)/python -m pytest -m e2e

promtool: setup ## Get promtool, with which the tests check the alerts (they skip that without it)
	@$(BIN)/python -m tunnel_dev promtool

programs: setup ## OpenSSH, rsync, PostgreSQL, nginx and DNS through a tunnel on this machine
	@$(BIN)/python -m pytest -m programs

matrix: setup ## The operator killed after each action, and with all around it failing; half an hour (MATRIX="--long")
	@$(BIN)/python -m pytest -m matrix tests/cluster $(MATRIX)

week: setup ## A week of 200 tunnels in some minutes, by chance (WEEK="--seed 7")
	@$(BIN)/python -m pytest -m matrix tests/operator $(WEEK)

test: cluster ## All tests but `programs`, `matrix` and `week`, set-up included
	@$(BIN)/python -m tunnel_dev promtool || echo "The tests of the alerts are skipped."
	@$(BIN)/python -m pytest -m "not programs and not matrix"

bench: setup ## The bridge beside ssh, socat, stunnel, rathole and bore; a quarter of an hour
	@bench/peers.sh
	@PYTHONPATH=bench $(BIN)/python -m bridge $(BENCH)

bench-operator: setup ## The operator with 500 and 1,000 Tunnels, beside a bare client; an hour (BENCH="--tunnels 100")
	@PYTHONPATH=tests:bench $(BIN)/python -m fleet $(BENCH)

soak: setup ## The bridge with faults of the simulated Azure, for 20 minutes (SOAK="--minutes 5 --seed 1")
	@PYTHONPATH=bench $(BIN)/python -m bridge.soak $(SOAK)

profile: setup ## Where the time of one stream goes, by perf; what an idle forwarder costs
	@bench/peers.sh
	@PYTHONPATH=bench $(BIN)/python -m bridge.profile $(PROFILE)

lock: setup ## Write the hash-locked requirements files again
	@./requirements/lock.sh

clean: ## Remove what is made inside the tree, but for a running cluster's state
	@rm -rf $(VENV) .hypothesis .mypy_cache .pytest_cache .ruff_cache dist
