# Everything sets itself up: a Python >= 3.11 with pip and the package registry are enough.
PYTHON ?= $(shell for p in python3 python3.11 python3.12 python3.13 python3.14; do \
	$$p -c 'import sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV ?= .venv
BIN := $(VENV)/bin
TWO := -n 2 --dist loadfile
EVERYDAY := not slow and not browser and not real

.PHONY: help demo lab test test-all real lint format lock clean

help: ## show this
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

demo: $(VENV)/.practice ## break a practice platform for real and write incident reports
	$(BIN)/python -m runbook_lib.practice.demo

lab: $(VENV)/.lab ## open the notebooks in JupyterLab, connected to a practice platform
	$(BIN)/python -m runbook_lib.practice.lab

test: $(VENV)/.dev ## the everyday suite
	$(BIN)/pytest $(TWO) -m "$(EVERYDAY)"

test-all: $(VENV)/.dev ## the rest: slow tests, and those that need something installed
	$(BIN)/pytest $(TWO) -m "not ($(EVERYDAY))"

real: ## environments of the real MLflow, Feast and KServe servers, for tests marked real
	for server in mlflow feast kserve; do \
		$(MAKE) VENV=.real/$$server .real/$$server/.real-$$server || exit 1; \
	done

lint: $(VENV)/.dev ## formatting, lint and types
	$(BIN)/ruff format --check && $(BIN)/ruff check && $(BIN)/mypy

format: $(VENV)/.dev ## format code and notebooks
	$(BIN)/ruff format && $(BIN)/ruff check --fix

lock: ## write requirements/*.txt anew (needs uv)
	for set in practice lab dev; do \
		uv pip compile -q pyproject.toml --universal --python-version 3.11 --generate-hashes \
			--no-header --no-annotate --extra build --extra $$set -o requirements/$$set.txt || exit 1; \
	done

	for set in mlflow feast kserve; do \
		uv pip compile -q requirements/real-$$set.in --universal --python-version 3.11 \
			--generate-hashes --no-header --no-annotate -o requirements/real-$$set.txt || exit 1; \
	done

clean: ## remove the environment and caches
	rm -rf $(VENV) .real .pytest_cache .ruff_cache .mypy_cache

# The real servers stand alone: they are no part of this project's environment.
$(VENV)/.real-%: requirements/real-%.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r $<
	@touch $@

# One rule for each set of packages; the project itself is installed last, from this folder.
$(VENV)/.%: requirements/%.txt pyproject.toml
	@test -n "$(PYTHON)" || { echo "No Python >= 3.11 with venv was found; set PYTHON=…" >&2; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r $<
	$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@
