# make run, make test, make bench: on a machine with Python 3.11 or newer and make, and nothing else set up.
# What is installed goes into $(VENV), and again only when pyproject.toml or what is compiled changes.

VENV ?= .venv
BUILD ?= build
PYTHON ?= $(shell for candidate in python3 python3.14 python3.13 python3.12 python3.11 python; do \
	if $$candidate -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then echo $$candidate; break; fi; done)

# Which share of the lines and branches the tests must reach, in percent.
FLOOR ?= 90
# What depends on the codec, and is therefore tested once more on its pure twin.
PURE_TESTS ?= tests.http1 tests.proxy
# Arguments of `make bench`, such as BENCH="--quick".
BENCH ?=
# Arguments of `make drills`, such as DRILLS="--only upgrade".
DRILLS ?=
# Arguments of `make balance`, such as BALANCE="--quick".
BALANCE ?=
# Arguments of `make autobahn`, such as AUTOBAHN="--python2 /opt/python2.7/bin/python".
AUTOBAHN ?=
# Arguments of `make programs`, such as PROGRAMS="--size 50000000".
PROGRAMS ?=

BIN := $(VENV)/bin
SOURCES := lemmytx benchmarks tests .ci twisted hatch_build.py docs/conf.py
INPUTS := pyproject.toml hatch_build.py $(wildcard lemmytx/*/*.pyx lemmytx/*/*.pxi lemmytx/*/*.pxd)
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --editable

.DEFAULT_GOAL := help
.PHONY: help run test bench balance table ha drills drilled autobahn h2spec programs docs lint types layers fragments wheel trial clean
.DELETE_ON_ERROR:
# What ruff has to say does not keep the tests from running: every check is made, and any that fails fails the whole.
MAKEFLAGS += --keep-going

help:
	@echo 'make run     the proxy with two demo backends: http://127.0.0.1:8080/'
	@echo 'make test    everything that CI checks'
	@echo 'make bench   lemmytx beside nginx, HAProxy, Caddy and twisted.web (BENCH="--quick" for a rough picture)'
	@echo 'make balance  every scheduler beside HAProxy and nginx, with slow, failing and returning backends (BALANCE="--quick")'
	@echo 'make ha      two instances that share an address by keepalived, one of them killed (wants root)'
	@echo 'make drills  reloads, upgrades, killed workers and stops under load (DRILLS="--quick" for the short form)'
	@echo 'make autobahn  the WebSocket fuzzing client Autobahn, with lemmytx between and without (wants a Python 2.7)'
	@echo 'make h2spec  the public suite for HTTP/2, over TLS and without (wants h2spec on the PATH)'
	@echo 'make programs  lemmytx in front of JupyterLab, pypiserver, git, nginx and PHP, with their usual clients'
	@echo 'make docs    the documents, into $(BUILD)/docs'
	@echo 'make clean   removes what the others made'

run: $(VENV)/.run
	$(BIN)/lemmy demo

# The slow parts last, and the count of the tests as the last line.
test: lint types layers fragments docs wheel drilled trial

bench: $(VENV)/.bench
	$(BIN)/python -m benchmarks.run $(BENCH)

balance: $(VENV)/.bench
	$(BIN)/python -m benchmarks.balance $(BALANCE)

# 10,000 vhosts in a file and in Redis, and what Redis costs a request.
table: $(VENV)/.bench
	$(BIN)/python -m benchmarks.table $(TABLE)

ha: $(VENV)/.run
	$(BIN)/python -m benchmarks.ha

drills: $(VENV)/.run
	$(BIN)/python -m benchmarks.drills $(DRILLS)

autobahn: $(VENV)/.dev
	$(BIN)/python -m benchmarks.autobahn --suite $(BUILD)/autobahn $(AUTOBAHN)

h2spec: $(VENV)/.run
	$(BIN)/python -m benchmarks.h2spec

programs: $(VENV)/.run $(VENV)/.programs
	$(BIN)/python -m benchmarks.programs --python $(VENV)/programs/bin/python $(PROGRAMS)
	$(BIN)/python -m benchmarks.programs.https --python $(VENV)/programs/bin/python

lint: $(VENV)/.dev
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)

types: $(VENV)/.dev
	$(BIN)/mypy lemmytx benchmarks .ci/summary.py

layers: $(VENV)/.dev
	$(BIN)/lint-imports

fragments: $(VENV)/.dev
	$(BIN)/towncrier build --draft --version next > /dev/null

docs: $(VENV)/.dev
	$(BIN)/sphinx-build -q -W --keep-going -d $(BUILD)/doctrees -b html docs $(BUILD)/docs

wheel: $(VENV)/.dev
	.ci/wheel $(BIN)/python $(BUILD)/wheel

# The short form of `make drills`.
drilled: $(VENV)/.dev
	$(BIN)/python -m benchmarks.drills --quick --out $(BUILD)/drills.md

trial: $(VENV)/.dev
	$(BIN)/python .ci/summary.py --build $(BUILD) --floor $(FLOOR) --pure "$(PURE_TESTS)" tests

$(VENV)/.made:
	.ci/venv "$(PYTHON)" $(VENV)
	touch $@

$(VENV)/.run: $(VENV)/.made $(INPUTS)
	$(PIP) .
	@$(BIN)/python -c 'from lemmytx.http1 import codec; print("codec:", "compiled" if codec.compiled else "pure Python, for want of a C compiler: slower, otherwise the same")'
	touch $@

$(VENV)/.dev: $(VENV)/.made $(INPUTS)
	$(PIP) '.[dev]'
	touch $@

$(VENV)/.bench: $(VENV)/.made $(INPUTS)
	$(PIP) '.[bench]'
	touch $@

# The programs that are put behind lemmytx do not share its environment.
$(VENV)/.programs: $(VENV)/.made benchmarks/programs/requirements.txt
	.ci/venv "$(PYTHON)" $(VENV)/programs
	$(VENV)/programs/bin/python -m pip --disable-pip-version-check install --quiet --requirement benchmarks/programs/requirements.txt
	touch $@

clean:
	rm -rf $(VENV) $(BUILD) dist _trial_temp* .coverage .coverage.* htmlcov .hypothesis .mypy_cache .ruff_cache .import_linter_cache
	rm -f lemmytx/*/*.so lemmytx/*/*.c twisted/plugins/dropin.cache twistd.pid twistd.log
	find lemmytx tests benchmarks twisted docs .ci -name __pycache__ -prune -exec rm -rf {} +
