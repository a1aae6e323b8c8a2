# make demo   install into .venv and run the main job; a second time takes seconds
# make test   lint, the documentation, the doctests and the suite, two at a time
# make test-slow  tests of whole runs, killed ones among them, some minutes
# make lint   ruff (check and format) and mypy
# make docs   the documentation, into site/, with warnings as errors
# make bench  experiments/benchmarks into their JSON files, and a page of them, runs/benchmarks.md
# make torture  kills, full disks, damaged files and hostile input for MINUTES=20, counted in docs/reliability.md
# make mutants  mutation testing of the numerical core, tests/mutants/core.toml; what it has run it does not run again
#
# Python 3.11 is what everything is tested with: RecBole asks for ray <= 2.6.3, which has no wheel for 3.12.
# Elsewhere:  make demo PYTHON=/path/to/python3.11
# For a CPU build of torch see the head of constraints.txt.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/installed
PACKAGES := recgen ranking_models generators recbole_configs

MINUTES ?= 20

.PHONY: demo test doctests suite test-slow lint docs bench mutants torture

demo: $(INSTALLED)
	$(BIN)/recgen run --config demo

test: $(INSTALLED)
	$(MAKE) --no-print-directory -j 2 lint docs doctests suite

doctests: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --doctest-modules recgen generators ranking_models

suite: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

test-slow: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m slow

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy $(PACKAGES)

torture: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/torture --torture $(MINUTES)

mutants: $(INSTALLED)
	$(BIN)/pip install --quiet -c constraints.txt cosmic-ray
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/mutants
	OMP_NUM_THREADS=1 $(BIN)/python tests/mutants/run.py

docs: $(INSTALLED)
	NO_MKDOCS_2_WARNING=1 DISABLE_MKDOCS_2_WARNING=true OMP_NUM_THREADS=1 $(BIN)/python -m mkdocs build --quiet --strict

bench: $(INSTALLED)
	for each in demo laws api what_if micro pool convert; do OMP_NUM_THREADS=1 $(BIN)/python experiments/benchmarks/$$each.py || exit 1; done
	$(BIN)/python experiments/benchmarks/page.py

$(INSTALLED): setup.py pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet -c constraints.txt -e '.[test,docs,notebook]'
	touch $@
