# `make demo` and `make test` need nothing but Python 3.11 or newer and make.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# A process a core; a file's tests stay together, because they share compiled programs.
PARALLEL := -n auto --maxprocesses 4 --dist loadfile

.PHONY: demo test slow hunt lint format types clean

# The pins are read again whenever they or the project's own metadata change.
$(VENV)/.installed: requirements.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@

demo: $(VENV)/.installed
	$(BIN)/jaxmicro demo --out demo-out --force

test: $(VENV)/.installed
	$(BIN)/python -m pytest -m "not slow" $(PARALLEL)

slow: $(VENV)/.installed
	$(BIN)/python -m pytest -m slow

# Property tests on many more examples, other ones in each run.
hunt: $(VENV)/.installed
	JAXMICRO_HYPOTHESIS=hunt $(BIN)/python -m pytest tests/properties

lint: $(VENV)/.installed
	$(BIN)/ruff check .

format: $(VENV)/.installed
	$(BIN)/ruff format .

types: $(VENV)/.installed
	$(BIN)/mypy jaxmicro
	$(BIN)/mypy --warn-unused-ignores tests/typing

clean:
	rm -rf $(VENV) demo-out build dist .pytest_cache .mypy_cache .ruff_cache
