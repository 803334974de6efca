# Everything here needs make and Python 3.10 or newer; the rest is set up in .venv on first use.

PYTHON ?= python3
VENV ?= .venv
CHROMIUM := /usr/bin/chromium
BIN := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help demo test e2e bench fuzz mutants lint types docs matrix chromium servers clean

help:
	@echo "make demo    start the example site and its OpenID Provider on this machine"
	@echo "make test    run the tests, with coverage"
	@echo "make e2e     run the scenario in a real browser (Debian's Chromium), and a site under load and faults"
	@echo "make bench   measure how fast it is, against Django and mozilla-django-oidc"
	@echo "make fuzz    go on trying random tokens, queries and settings, each kind for a minute"
	@echo "make mutants change the code in four thousand ways, and see that the tests notice"
	@echo "make lint    check style and formatting with ruff"
	@echo "make types   check the types with mypy"
	@echo "make docs    build the documentation into docs/_build/html"
	@echo "make matrix  run the tests on every supported Python and Django, with nox"
	@echo "make clean   remove everything that was built, .venv included"
	@echo
	@echo "Another Python: make demo PYTHON=python3.13"

demo: $(VENV)/.ready-provider
	@$(BIN)/python -m example_project.demo

test: $(VENV)/.ready-dev
	$(BIN)/python -m pytest --cov --numprocesses auto

e2e: $(VENV)/.ready-dev chromium servers
	$(BIN)/python -m pytest tests/e2e --override-ini=addopts= --no-cov

bench: $(VENV)/.ready-dev
	$(BIN)/python -m pytest tests/benchmarks --override-ini=addopts= --quiet --benchmark-quiet --no-cov

fuzz: $(VENV)/.ready-dev
	STEPUP_FUZZ_SECONDS=$${STEPUP_FUZZ_SECONDS:-60} $(BIN)/python -m pytest tests/test_fuzz.py --no-cov

# Asked for by name, the tests are first run without any mutant: one that cannot be found then is not taken for a failure.
mutants: $(VENV)/.ready-mutants
	$(BIN)/mutmut run --max-children 1 'stepup.*'
	$(BIN)/python -m tests.mutants

lint: $(VENV)/.ready-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.ready-dev
	$(BIN)/mypy

docs: $(VENV)/.ready-dev
	$(BIN)/sphinx-build -W -b html docs docs/_build/html

matrix: $(VENV)/.ready-dev
	$(BIN)/nox

# A stamp for each extra. A change of pyproject.toml installs again; otherwise a second run starts at once.
$(VENV)/.ready-%: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
	    echo "Python 3.10 or newer is needed, and \"$(PYTHON)\" is not (or not there)." >&2; \
	    echo "Name another one: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }
	@echo "Setting up $(VENV) (only the first time, or after a change of pyproject.toml) ..."
	@$(PYTHON) -m venv $(VENV) || { \
	    echo "Python could not make a virtual environment. On Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade pip
	@PYTHONWARNINGS=ignore $(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[$*]"
	@touch $@

chromium:
	@test -x $(CHROMIUM) || { \
	    echo "Installing Debian's Chromium for the browser tests ..."; \
	    if [ "$$(id -u)" = 0 ]; then as_root=; \
	    elif command -v sudo >/dev/null; then as_root=sudo; \
	    else echo "The browser tests need $(CHROMIUM). Install it as root: apt-get install chromium" >&2; exit 1; fi; \
	    $$as_root apt-get update --quiet && $$as_root apt-get install --yes --quiet --no-install-recommends chromium; }

# Debian starts servers of its own with them, which the tests neither use nor stop.
servers:
	@{ ls /usr/lib/postgresql/*/bin/initdb && command -v redis-server; } >/dev/null 2>&1 || { \
	    echo "Installing Debian's PostgreSQL and Redis for the test under load ..."; \
	    if [ "$$(id -u)" = 0 ]; then as_root=; \
	    elif command -v sudo >/dev/null; then as_root=sudo; \
	    else echo "The test under load needs PostgreSQL and Redis. Install them as root: apt-get install postgresql redis-server" >&2; exit 1; fi; \
	    $$as_root apt-get update --quiet && $$as_root apt-get install --yes --quiet --no-install-recommends postgresql redis-server; }

clean:
	rm -rf $(VENV) build dist htmlcov mutants docs/_build .coverage .coverage.* .hypothesis .mypy_cache .nox .pytest_cache .ruff_cache
	rm -rf django_stepup.egg-info example_project/*.sqlite3 example_project/*.sqlite3-* example_project/.secret-key
	find . -name __pycache__ -not -path './.git/*' -prune -exec rm -rf {} +
