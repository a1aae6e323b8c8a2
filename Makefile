# make demo   install into .venv and run the main job; a second time takes seconds
# make test   ruff, mypy and all tests
# make lint   ruff and mypy
# make mutants   mutation testing of the numerical files named in tests/mutants/*.toml; hours, and it edits them as it goes
#
# Python 3.11 is what everything is tested with: RecBole asks for ray <= 2.6.3, which has no wheel for 3.12.
# Elsewhere:  make demo PYTHON=/path/to/python3.11
# For a CPU build of torch see the head of constraints.txt.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/installed
PACKAGES := recgen ranking_models generators

.PHONY: demo test lint mutants

demo: $(INSTALLED)
	$(BIN)/recgen run --config demo

test: lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/mypy $(PACKAGES)

mutants: $(INSTALLED)
	$(BIN)/pip install --quiet -c constraints.txt cosmic-ray
	mkdir -p build/mutants
	set -e; for each in tests/mutants/*.toml; do \
	  session=build/mutants/$$(basename $$each .toml).sqlite; rm -f $$session; \
	  PATH=$(CURDIR)/$(BIN):$$PATH; export PATH OMP_NUM_THREADS=1; \
	  cosmic-ray init $$each $$session; cr-filter-operators $$session $$each; \
	  cosmic-ray exec $$each $$session; cr-report --show-diff --surviving-only $$session; \
	done

$(INSTALLED): setup.py pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet -c constraints.txt -e '.[test]'
	touch $@
