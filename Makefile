# Everything runs from a virtual environment in .venv, which each target makes or renews when it needs to.
#
#   make demo    the bundled guests under every monitor, in this terminal
#   make lab     JupyterLab with vlab importable
#   make test    the whole test suite; fetches the Linux guest where it can
#   make help    all targets

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PYTEST ?= $(BIN)/python -m pytest
JOBS   ?= auto

# Extra arguments: make test ARGS='-k serial', make demo ARGS='--json demo.json', make lab ARGS='--no-browser'.
ARGS   ?=

.DEFAULT_GOAL := help
.PHONY: help demo lab test quick bench check format guests docs clean

help:
	@echo "make demo     run the bundled guests under every monitor and compare them"
	@echo "make lab      open JupyterLab with vlab importable"
	@echo "make test     run the whole test suite (fetches the Linux guest where it can)"
	@echo "make quick    run the tests that need no Linux and finish within a minute"
	@echo "make bench    measure speed and memory against their bars"
	@echo "make check    format, lint, types, import contract"
	@echo "make format   let ruff format the sources"
	@echo "make guests   fetch the Linux guest (Debian and Ubuntu)"
	@echo "make docs     build the documentation into build/site, warnings as errors"
	@echo "make clean    remove .venv and what tools left behind"
	@echo "Variables: PYTHON=python3.12 picks the interpreter, ARGS='...' is passed on."

# --- set-up ---------------------------------------------------------------------------------------------------

$(BIN)/python:
	@command -v $(PYTHON) >/dev/null 2>&1 || { \
	  echo "vlab needs Python 3.11 or newer, and '$(PYTHON)' was not found: install it, or say PYTHON=/path/to/python3"; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "vlab needs Python 3.11 or newer, but '$(PYTHON)' is $$($(PYTHON) -V 2>&1): say PYTHON=python3.12, for example"; exit 2; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { \
	  echo "'$(PYTHON)' has no venv module: on Debian and Ubuntu, 'sudo apt install python3-venv' brings it"; exit 2; }
	$(PYTHON) -m venv $(VENV)

# One stamp a set of extras; each is older than pyproject.toml when the dependencies may have changed.
$(VENV)/installed: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/installed-%: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[$*]'
	@touch $@ $(VENV)/installed

# --- what to run ----------------------------------------------------------------------------------------------

demo: $(VENV)/installed
	$(BIN)/vlab demo $(ARGS)

lab: $(VENV)/installed-lab
	$(BIN)/vlab lab $(ARGS)

test: $(VENV)/installed-test
	@[ -n "$(VLAB_OFFLINE)" ] || $(BIN)/vlab guests fetch linux \
	  || echo "The tests that boot Linux will be skipped; all others run."
	$(PYTEST) -n $(JOBS) $(ARGS)

quick: $(VENV)/installed-test
	$(PYTEST) -n $(JOBS) -m 'not slow and not linux and not network' $(ARGS)

bench: $(VENV)/installed
	$(BIN)/vlab bench $(ARGS)

check: $(VENV)/installed-test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/mypy --no-explicit-package-bases labs/*/*.py
	$(BIN)/python -W error -m compileall -q -f vlab
	$(PYTEST) -q tests/test_import_contract.py tests/test_import_time.py tests/test_style.py

format: $(VENV)/installed-test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

guests: $(VENV)/installed
	$(BIN)/vlab guests fetch linux

docs: $(VENV)/installed-docs
	$(BIN)/python -m sphinx -E -q -W --keep-going -b html -d build/site-doctrees docs build/site $(ARGS)
	@echo "The site is in build/site: open build/site/index.html; it needs no server."

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find vlab tests -name __pycache__ -type d -prune -exec rm -rf {} +
