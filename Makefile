# Two commands do everything: `make demo` and `make test`. Everything else is a part of these or for those who work on Outrider.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
SOURCES := orchestrator signing agent_sim dashboards benchmarks tests hatch_build.py

.PHONY: demo judge bench chaos soak conform conformance alerts simulate fuzz coverage mutants sessions uptane-page faults-page uptane-vectors system-packages test check lint types imports proto format lock clean setup setup-dev

demo: setup
	@$(BIN)/outrider-sim demo $(if $(KEEP),--keep)

# Every scenario, against the simulator's own agent and the agents that are wrong on purpose; `make test` plays the short form.
conform: setup-dev
	@OUTRIDER_CONFORM=long $(BIN)/python -m pytest -q -m processes tests/agent_sim/conform --timeout 1200

# Compares rules on modelled fleets, on the same seeds; what is finished is kept in build/judge. RUNS=1000 takes hours and may be broken off.
judge: setup-dev
	@$(BIN)/python -m benchmarks.judge --runs $(or $(RUNS),60)

# Speed of the hot parts, each against a bare baseline in the same run; writes benchmarks/speed.md. Nine minutes, and over an hour for its last part, a
# rollout to 20,000 vehicles; leave the machine alone.
bench: setup-dev
	@$(BIN)/python -m benchmarks.speed

# kill -9 of everything at random while several hundred simulated vehicles update, and what each recovery took; about ten minutes for
# a hundred. SEED=N repeats a run as far as processes allow; `make test` has a short form.
KILLS ?= 100
chaos: setup-dev
	@$(BIN)/python -m tests.faults.run_chaos --kills $(KILLS) $(if $(SEED),--seed $(SEED))

# An hour (MINUTES=) of mixed load: do memory, open files and latency stay flat? Writes benchmarks/soak.md.
soak: MINUTES := $(or $(MINUTES),60)
soak: setup-dev
	@$(BIN)/python -m tests.faults.run_soak --minutes $(MINUTES)

# Records the terminal sessions of docs/sessions anew, each against an installation of its own; about a minute each.
sessions: setup-dev
	@$(BIN)/python -m tests.sessions --write $(NAMES)

# Writes docs/uptane.md from what tests cite.
uptane-page: setup-dev
	@$(BIN)/python -m tests.uptane

# Writes docs/faults.md from what tests cite.
faults-page: setup-dev
	@$(BIN)/python -m tests.faults

# Writes tests/vectors/cases: scenarios of verification for other implementations.
uptane-vectors: setup-dev
	@$(BIN)/python -m tests.vectors

test: check system-packages
	@$(BIN)/python -m pytest -n 2 --dist loadfile -q -m "not processes"
	@# An installation with its fleet waits more than it works: two files of tests side by side, each with a core to itself.
	@$(BIN)/python -m pytest -n 2 --dist loadfile -q -m "processes and not alerts"

# Whole systems from seeds, as many as asked: make simulate SEEDS=10000. `make test` runs the first 300.
SEEDS ?= 1000
simulate: setup-dev
	@$(BIN)/python -m tests.sim --seeds $(SEEDS)

# Every branch of what decides whether software may run, and of what the Director signs; pyproject.toml has the modules.
coverage: setup-dev
	@$(BIN)/python -m coverage run -m pytest -q -m "not processes" tests/signing tests/uptane
	@$(BIN)/python -m coverage report

# The TUF client conformance suite over our verifier of the Image repository; without SUITE it says how to get it. Its main cases are in `make test`.
conformance: setup-dev
	@$(BIN)/python -m tests.conformance $(SUITE)

# Hostile bytes for everything that reads what others wrote. Ten minutes; `make test` has a short form.
MINUTES ?= 10
fuzz: setup-dev
	@$(BIN)/python -m tests.fuzz --minutes $(MINUTES)

# What tests would not notice: small changes to what verifies and to what the Director signs, each judged by the tests that reach it. A quarter of an
# hour; may be broken off and goes on. docs/mutants.md explains those that are left.
mutants: $(VENV)/.mutants
	@nice -n 15 $(BIN)/python -m mutmut run --max-children 2
	@$(BIN)/python -m mutmut results

# Every alert, made to fire by causing its fault. About ten minutes.
alerts: setup-dev
	@$(BIN)/python -m pytest -q tests/dashboards/test_faults.py tests/dashboards/test_dark_region.py

check: lint types imports proto

setup: $(VENV)/.run

setup-dev: $(VENV)/.dev

$(VENV)/bin/python:
	@echo "Setting up $(VENV) ..."
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Outrider needs Python 3.11 or newer; set PYTHON=/path/to/python3.11")'
	@$(PYTHON) -m venv $(VENV)

# The protobuf compiler and the build backend stay out of the environment that runs; a .pth-like editable install links the checkout in.
$(VENV)/.run: requirements/run.txt requirements/build.txt pyproject.toml hatch_build.py $(wildcard proto/outrider/v1/*.proto) | $(VENV)/bin/python
	@echo "Installing the run-time packages (pinned by hash) ..."
	@$(PIP) install --require-hashes --only-binary :all: --no-compile -r requirements/run.txt
	@test build/tools/.done -nt requirements/build.txt || { $(PIP) install --require-hashes --only-binary :all: --no-compile --upgrade --target build/tools -r requirements/build.txt && touch build/tools/.done; }
	@PATH="$(CURDIR)/build/tools/bin:$$PATH" PYTHONPATH=build/tools $(PIP) install --no-build-isolation --no-deps --editable .
	@touch $@

$(VENV)/.dev: requirements/dev.txt $(VENV)/.run
	@echo "Installing the developers' tools (pinned by hash) ..."
	@$(PIP) install --require-hashes --only-binary :all: --no-compile -r requirements/dev.txt
	@touch $@

$(VENV)/.mutants: requirements/mutants.txt $(VENV)/.dev
	@echo "Installing the tool for mutants (pinned by hash) ..."
	@$(PIP) install --require-hashes --only-binary :all: --no-compile -r requirements/mutants.txt
	@touch $@

# Real programs that tests use. Installed only as root in CI, where nothing may be skipped; elsewhere it says what is missing.
# Debian keeps PostgreSQL's programs off the path, by version.
POSTGRES := $(firstword $(wildcard /usr/lib/postgresql/*/bin/postgres) postgres)
SYSTEM_PROGRAMS := prometheus promtool prometheus-alertmanager amtool softhsm2-util zstd redis-server $(POSTGRES) cc ip
SYSTEM_PACKAGES := prometheus prometheus-alertmanager softhsm2 zstd redis-server postgresql gcc libc6-dev iproute2
system-packages:
	@missing=; for name in $(SYSTEM_PROGRAMS); do command -v $$name >/dev/null || missing="$$missing $$name"; done; \
	if [ -z "$$missing" ]; then exit 0; fi; \
	if [ -n "$$CI" ] && [ "$$(id -u)" = 0 ]; then \
		echo "Installing$$missing ..."; apt-get update -qq && \
		DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends $(SYSTEM_PACKAGES) >/dev/null; \
	else echo "Not installed:$$missing. Their tests are skipped; apt-get install $(SYSTEM_PACKAGES) runs them."; fi

lint: setup-dev
	@$(BIN)/ruff check $(SOURCES)
	@$(BIN)/ruff format --check $(SOURCES)

types: setup-dev
	@$(BIN)/mypy

imports: setup-dev
	@$(BIN)/lint-imports --no-cache

proto: setup-dev
	@$(BIN)/buf lint proto

format: setup-dev
	@$(BIN)/ruff check --fix --quiet $(SOURCES) || true
	@$(BIN)/ruff format $(SOURCES)

# Needs uv on the path. Writes no registry address.
UV_COMPILE := uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate
lock:
	$(UV_COMPILE) requirements/run.in -o requirements/run.txt
	$(UV_COMPILE) requirements/build.in -c requirements/run.txt -o requirements/build.txt
	$(UV_COMPILE) requirements/dev.in -c requirements/run.txt -o requirements/dev.txt
	$(UV_COMPILE) requirements/mutants.in -c requirements/run.txt -c requirements/dev.txt -o requirements/mutants.txt

clean:
	rm -rf $(VENV) gen build dist mutants .mypy_cache .ruff_cache .pytest_cache .hypothesis demo-data
