# One verb per task. `make run` and `make test` are all that a fresh machine needs; both make .venv themselves.

PYTHON ?= python3
BIN := .venv/bin
ARGS ?=

.PHONY: help run test check format docs bench kills clean

help:  ## Show the verbs
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

run: .venv/.server  ## Start a server with a live demo store; ARGS="--port 8000" adds flags
	$(BIN)/syncline serve --demo --auth none $(ARGS)

test: .venv/.dev  ## Run every test that this machine can run; what is skipped is listed with its reason
	$(BIN)/python -m pytest $(ARGS)

check: .venv/.dev  ## Lint, formatting, types, and the tests that keep the house tidy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_tidy.py tests/test_docs.py

format: .venv/.dev  ## Format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: .venv/.dev  ## Write the pages of the reference that are made from tables
	$(BIN)/python docs/build_reference.py

bench: .venv/.dev  ## Measure, each figure beside its floor of the same run; ARGS="commit fanout" picks some
	$(BIN)/python -m benchmarks $(ARGS)

kills: .venv/.dev  ## kill -9 a loaded server again and again, and check every acknowledged change
	$(BIN)/python -m benchmarks kills $(ARGS)

clean:  ## Remove what the verbs made, except data
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis dist

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/.server: .venv/bin/python pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[server]'
	@touch $@

.venv/.dev: .venv/bin/python pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[server,dev]'
	@touch $@ .venv/.server
