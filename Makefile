# What to type: `make run`, `make test`, `make check`, `make bench`. Each sets up what it needs by itself.
PYTHON ?= python3
BIN := .venv/bin

# -- set-up -----------------------------------------------------------------------------------------------------------

$(BIN)/python:
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) is missing: sudo apt-get install python3 python3-venv" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "$(PYTHON) is older than 3.11: make PYTHON=/path/to/a/newer/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null \
		|| { echo "$(PYTHON) cannot make virtual environments: sudo apt-get install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv .venv

# The copy of a lock says that it is installed.
.venv/dev.lock: requirements/dev.lock | $(BIN)/python
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.lock
	@cp requirements/dev.lock $@

# -- check: everything that can be said without running a service; under 30 s ----------------------------------------

CHECKS := check-format check-lint check-types check-walls check-tidy

check: .venv/dev.lock
	@$(MAKE) --no-print-directory --keep-going --jobs=3 --output-sync=target $(CHECKS)

check-format:
	$(BIN)/ruff format --check --quiet
check-lint:
	$(BIN)/ruff check --quiet
check-types:
	$(BIN)/mypy --no-error-summary
check-walls:
	@said=$$($(BIN)/lint-imports 2>&1) || { echo "$$said"; exit 1; }
check-tidy:
	$(BIN)/pytest --quiet --no-header $(wildcard tests/contract/test_tidy.py tests/contract/test_proto.py \
		tests/contract/test_topology.py tests/contract/test_kubernetes.py)

# -- test -------------------------------------------------------------------------------------------------------------

# `make test ARGS="-k walk"` passes words on to pytest.
test: check
	$(BIN)/pytest $(wildcard tests/unit tests/contract tests/integration tests/fault) $(ARGS)

# -- generated code ---------------------------------------------------------------------------------------------------

proto: .venv/dev.lock
	PATH=$(BIN):$$PATH $(BIN)/python -m grpc_tools.protoc \
		-I . --python_out=. --mypy_out=. --grpc_python_out=. --mypy_grpc_out=. proto/*.proto

.PHONY: check $(CHECKS) test proto
