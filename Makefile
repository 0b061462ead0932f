# normleak: `make quickstart` answers the question once, `make test` checks that the answer can be trusted.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
RESULTS ?= results

.PHONY: help install quickstart test test-all check clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

install: $(VENV)/installed  ## make the virtual environment and install the project in it

# The stamp is written last: an interrupted install is taken up again.
$(VENV)/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || \
	  { echo "normleak needs Python 3.11 to 3.13; name one with: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 2; }
	@test -x $(RUN) || $(PYTHON) -m venv $(VENV) || \
	  { echo "could not make a virtual environment; on Debian and Ubuntu: apt install python3-venv" >&2; exit 2; }
	$(RUN) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

quickstart: install  ## run the first sweep on real digits, then print its table and test and write its figures and report
	@$(RUN) -m sweeps run quickstart --results $(RESULTS) --yes
	@$(RUN) -m analysis tables $(RESULTS) --sweep quickstart
	@$(RUN) -m analysis compare $(RESULTS) --sweep quickstart --factor norm
	@$(RUN) -m analysis figures $(RESULTS) --sweep quickstart
	@$(RUN) -m analysis report $(RESULTS)

test: install  ## run the tests but for those that take long: some minutes
	$(RUN) -m pytest -m "not slow"

# Those that start Ray wait more than they compute, so that three at once keep two cores busy.
test-all: install  ## run all tests, with faults of whole clusters
	$(RUN) -m pytest -n 3

check: install  ## lint and type-check
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy

clean:  ## remove the virtual environment and caches, never results
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache *.egg-info
