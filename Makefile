# What there is to run. Every target says what it does; `make` alone lists them.
# Needs python3 (3.11 or newer), make and a Python package index; everything else is installed into .venv*.

PYTHON ?= python3
GOAL := $(or $(firstword $(MAKECMDGOALS)),help)
export GOAL

# What a shell happens to have set must not reach the demo or the tests.
unexport PYTHONPATH PYTHONHOME PYTHONSTARTUP PYTHONDONTWRITEBYTECODE VIRTUAL_ENV STORAGE_EMULATOR_HOST GOOGLE_APPLICATION_CREDENTIALS AIRFLOW_HOME

AIRFLOW3 := .venv
AIRFLOW2 := .venv-airflow2
RUN := $(CURDIR)/$(AIRFLOW3)/bin/python
TESTS ?= tests
# Files of tests that run at the same time: much of the suite waits for Airflow, which has its own home in each process.
JOBS ?= 2
SOAK_MINUTES ?= 30

include tests/benchmarks/bench.mk

.PHONY: help test-matrix dist sbom audit demo ui test soak coverage test-celery test-browser docs site pictures lint format clean airflow3 airflow2
.DEFAULT_GOAL := help

help: ## list the targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):.*## /  make \1\t/' | expand -t 22

demo: airflow3 ## list and stage this environment's own packages on a real Airflow 3.3, and check every byte
	@$(RUN) tests/demo demo

ui: airflow3 ## the demo's deployment, left running for a browser until Ctrl-C
	@$(RUN) tests/demo ui

test: airflow3 airflow2 ## the whole suite, in random order, on Airflow 3.3 and 2.11 (TESTS=tests/unit for a part, JOBS=1 one by one)
	@echo "Running $(TESTS) on Airflow 3.3; tests marked for Airflow 2.11 run in $(AIRFLOW2)"
	@AIRFLOW_DATAFLUX_AIRFLOW2_PYTHON=$(CURDIR)/$(AIRFLOW2)/bin/python $(RUN) -m pytest --numprocesses $(JOBS) --dist loadfile --no-loadscope-reorder $(TESTS)

test-celery: ## the tests on CeleryExecutor with Redis and two workers, which `make test` leaves out
	@$(PYTHON) .ci/environment.py $(AIRFLOW3) .ci/constraints-airflow3.txt dev celery
	@$(RUN) -m pytest tests/system/celery

test-browser: ## the tests of the UI in Chromium, on PostgreSQL, which `make test` leaves out (SHOTS=docs/images keeps pictures)
	@$(PYTHON) .ci/environment.py $(AIRFLOW3) .ci/constraints-airflow3.txt dev browser
	@DATAFLUX_SCREENSHOTS="$(SHOTS)" $(RUN) -m pytest tests/system/browser

soak: airflow3 ## listings and stagings in a loop while everything goes wrong (SOAK_MINUTES=30)
	@$(RUN) tests/soak --minutes $(SOAK_MINUTES)

coverage: airflow3 ## branch coverage of core/ by its unit and integration tests, workers and engines included (twenty minutes)
	@rm -rf build/coverage && mkdir -p build/coverage
	@$(RUN) -m coverage run -m pytest tests/unit/core tests/integration
	@$(RUN) -m coverage combine --quiet
	@$(RUN) -m coverage report

docs: airflow3 ## check the documentation: links, tables, reference, and every example by running it
	@$(RUN) -m pytest tests/docs

site: ## the documentation as a site in build/site, strict, with search and a reference of docstrings
	@$(PYTHON) .ci/environment.py $(AIRFLOW3) .ci/constraints-airflow3.txt dev docs
	@NO_MKDOCS_2_WARNING=1 $(RUN) -m mkdocs build --strict --quiet
	@echo "$(CURDIR)/build/site/index.html"

pictures: airflow3 ## make the pictures of runs in docs/images anew: a listing and a staging against the embedded server
	@$(RUN) tests/docs/pictures/making.py

test-matrix: ## what depends on versions, on Airflow 2.11 to 3.3 and Python 3.11 to 3.14 (CELLS=… for some; hours for all)
	@$(PYTHON) .ci/matrix.py $(CELLS)

dist: airflow3 ## wheel and sdist in dist/, each tried as installed, outside this checkout
	@.ci/dist

sbom: ## a bill of materials of the wheel's dependencies as pinned for Airflow 3.3, build/sbom.json (CycloneDX)
	@$(PYTHON) .ci/environment.py $(AIRFLOW3) .ci/constraints-airflow3.txt dev release
	@mkdir -p build
	@$(RUN) -m cyclonedx_py environment --pyproject pyproject.toml --output-reproducible --output-file build/sbom.json $(RUN)

audit: ## known faults of the pinned dependencies (asks the vulnerability service of the package index)
	@$(PYTHON) .ci/environment.py $(AIRFLOW3) .ci/constraints-airflow3.txt dev release
	@$(RUN) -m pip_audit --strict --disable-pip --no-deps --requirement .ci/constraints-airflow3.txt

lint: airflow3 ## style, format and types
	@echo "ruff check"
	@$(RUN) -m ruff check . || { echo "Fix what ruff names; 'make format' repairs what can be repaired by itself."; exit 1; }
	@echo "ruff format --check"
	@$(RUN) -m ruff format --check . || { echo "Run 'make format'."; exit 1; }
	@echo "mypy --strict"
	@$(RUN) -m mypy || { echo "Fix the types that mypy names."; exit 1; }

format: airflow3 ## repair style and format where it can be done by itself
	@$(RUN) -m ruff check --fix .
	@$(RUN) -m ruff format .

clean: ## remove the environments, the demo's files and every cache
	@echo "Removing environments, the demo's files and caches"
	@rm -rf .venv .venv-airflow2 .venv-bench .demo build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

airflow3: ## only make the environment with Airflow 3.3, .venv
	@$(PYTHON) .ci/environment.py $(AIRFLOW3) .ci/constraints-airflow3.txt dev

airflow2: ## only make the environment with Airflow 2.11, .venv-airflow2
	@$(PYTHON) .ci/environment.py $(AIRFLOW2) .ci/constraints-airflow2.txt test
