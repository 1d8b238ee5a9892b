# What to type: `make run`, `make test`, `make check`, `make bench`. Each sets up what it needs by itself.
BIN := .venv/bin

# -- set-up -----------------------------------------------------------------------------------------------------------

# The scripts decide by themselves whether anything is to be done. PYTHON=/path/to/python3 chooses the Python.
export PYTHON

setup:
	@bin/setup

.venv/dev.lock: requirements/dev.lock
	@bin/setup dev
	@touch $@

# -- run: the whole stack in the foreground; `make run ARGS="--replicas queue=2"` passes words on to `up` ------------

run: setup
	@exec bin/seapost up $(ARGS)

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
	$(BIN)/pytest $(wildcard tests/unit tests/contract tests/integration tests/fault tests/sim) $(ARGS)
	@$(if $(ARGS),,$(MAKE) --no-print-directory sabotage)

# -- sabotage: everything that keeps mail is taken away, one thing at a time, and a test must notice; ALL=1 takes more ---
# -- than the dangerous ones, ARGS="log.py re-check" those whose name has one of these words ------------------------------

sabotage: .venv/dev.lock
	@$(BIN)/python -m tests.sabotage $(if $(ALL),--all) $(ARGS)

# -- sim: histories of a whole mail house from one seed each; SEEDS=5000 says how many, FIRST=1 where to begin, REPLAY=7 --
# -- tells one of them again, with everything that happened; `make sim-bite` tries each protection of the queue ------

sim: setup
	@$(BIN)/python -m tests.sim $(if $(SEEDS),--seeds $(SEEDS)) $(if $(FIRST),--first $(FIRST)) $(if $(REPLAY),--replay $(REPLAY))

sim-bite: setup
	@$(BIN)/python -m tests.sim.bite $(ARGS)

# -- bench: beside Postfix and qmail, about three minutes; BENCH_MESSAGES=2000 BENCH_ROUNDS=5 and more in its README ---

bench: setup
	@$(BIN)/python -m tests.bench

# -- bench-queue: one queue replica with a million messages, five minutes and more; BENCH_QUEUED=100000 is quicker --------

bench-queue: setup
	@$(BIN)/python -m tests.bench.queue

# -- nemesis: 20,000 messages while the queue is killed ten times, about three minutes; ARGS="--help" says what else ----

nemesis: setup
	@$(BIN)/python -m tests.fault.nemesis $(ARGS)

# -- fault: every call of the queue and of publishing killed and refused, every error at each, long silences: 20 minutes --

fault: .venv/dev.lock
	FAULT_ALL=1 $(BIN)/pytest tests/fault $(ARGS)

# -- generated code ---------------------------------------------------------------------------------------------------

proto: .venv/dev.lock
	PATH=$(BIN):$$PATH $(BIN)/python -m grpc_tools.protoc \
		-I . --python_out=. --mypy_out=. --grpc_python_out=. --mypy_grpc_out=. proto/*.proto

.PHONY: setup run check $(CHECKS) test sabotage sim sim-bite bench bench-queue nemesis fault proto
