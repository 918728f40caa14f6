# One command runs the main job (make demo), one passes the tests (make test); both set up all they need.
# Needs Python 3.11+ and make. PYTHON=... and VENV=... choose another interpreter and folder.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# These lanes have one engine and slow machines: their tests run one after the other, and beside all others, since
# they wait for half of their time. Each test with the real nitro-cli has a host of its own.
LANES := docker or qemu or cluster
# A Unix socket's path has at most 107 bytes, so the tests' folders are in one with a short name.
PARALLEL := --numprocesses auto --dist loadfile
PYTEST = $(BIN)/python -m pytest
# What failed is remembered apart, or the part that ends last would forget the other's failures.
OF_LANES := -o cache_dir=.pytest_cache/lanes
# Many tests wait for real processes. One that is too late beside others runs once more, alone, and is named.
AGAIN = echo "what failed runs again, alone; what passes only now is a defect, too:" && \
  $(PYTEST) --last-failed --last-failed-no-failures none --verbose
SOURCES := enclavectl enclave_payload tests fuzz tools benchmarks configs hatch_build.py

# pytest keeps the tests with their rewritten assertions as bytecode: each process rewrites them anew without.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help demo page qemu nitro-acceptance quick test test-lowest check format lint types bench docs clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "enclavectl needs Python 3.11 or newer; found $$($(PYTHON) --version). Try: make PYTHON=python3.12 ..."; exit 2; }
	@$(PYTHON) -c 'import ensurepip, venv' || \
	  { echo "this Python lacks the venv module; on Debian and Ubuntu: apt-get install python3-venv"; exit 2; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@$(BIN)/python -m compileall -q enclavectl enclave_payload  # the payload writes no files, not even these
	@touch $@

$(VENV)/.dev: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@ $(VENV)/.demo

demo: $(VENV)/.demo ## set up, then classify a sample picture in a local (simulated) enclave
	$(BIN)/enclavectl diagnose samples/bcc.png

qemu: ## build QEMU with the machine for enclave images, and unpack a kernel for them (Debian, amd64)
	@bash .ci/qemu-lane --qemu

test: $(VENV)/.dev ## set up, then run all tests (lanes whose real parts are absent skip, with the reason)
	@base=$$(mktemp -d /tmp/e.XXXX) || exit 1; lanes=0; others=0; \
	  echo "the tests of the lanes run at the same time; their output is in $$base/lanes.log, and follows"; \
	  $(PYTEST) $(OF_LANES) --basetemp $$base/l -m "$(LANES)" >$$base/lanes.log 2>&1 & \
	  $(PYTEST) $(PARALLEL) --basetemp $$base/t -m "not ($(LANES))" || others=$$?; \
	  wait $$! || lanes=$$?; cat $$base/lanes.log; \
	  [ $$others != 1 ] || { $(AGAIN) --basetemp $$base/again && others=0; }; \
	  [ $$lanes != 1 ] || { $(AGAIN) --basetemp $$base/again $(OF_LANES) && lanes=0; }; \
	  [ $$others = 0 ] && [ $$lanes = 0 ] && rm -rf $$base

# In the background: 39,000 files of tests take six seconds.
quick: $(VENV)/.dev ## what to run after each change: the unit tests and the architecture
	@base=$$(mktemp -d /tmp/e.XXXX) && $(BIN)/python -m pytest $(PARALLEL) --basetemp $$base/t --hypothesis-profile quick -m "not (slow or nitro_cli or $(LANES))" && { rm -rf $$base >/dev/null 2>&1 & }

test-lowest: ## run the tests with the lowest versions that pyproject.toml allows
	$(PYTHON) -m venv .venv-lowest
	.venv-lowest/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]' -c tests/lowest.txt
	.venv-lowest/bin/python -m pytest

format: $(VENV)/.dev ## rewrite the sources in the one format
	$(BIN)/ruff format $(SOURCES)
	$(BIN)/ruff check --fix $(SOURCES)

lint: $(VENV)/.dev ## check format and lint
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/ruff check $(SOURCES)

types: $(VENV)/.dev ## mypy strict over both packages and the tests
	$(BIN)/mypy

check: lint types test ## what CI runs

bench: $(VENV)/.dev ## measure the limits that docs/benchmarks.md reports
	$(BIN)/python -m benchmarks

$(VENV)/.docs: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[docs]'
	@touch $@

ACCEPTANCE := --image enclave.eif --report nitro-acceptance.json

nitro-acceptance: $(VENV)/.dev ## on an EC2 parent: the walk-through on the real device, with a report (docs/acceptance.md)
	$(BIN)/python -m tools.acceptance $(ACCEPTANCE)

# Without --quiet, which hides warnings from --strict too. NO_MKDOCS_2_WARNING: advice about the theme's successor.
docs: $(VENV)/.docs ## build the documentation site in site/; a broken link fails
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --site-dir site

page: browser/node_modules/.package-lock.json ## build the patient's page (enclavectl page); needs Node 20 or newer
	npm run --prefix browser --silent check
	npm run --prefix browser --silent build

browser/node_modules/.package-lock.json: browser/package-lock.json
	npm ci --prefix browser --ignore-scripts --no-audit --no-fund --loglevel error

clean: ## remove the environments and caches
	rm -rf browser/node_modules browser/dist enclavectl/page/built
	rm -rf .venv* .mypy_cache .ruff_cache .pytest_cache .hypothesis dist build site
