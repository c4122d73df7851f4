# The commands lie in .venv/bin after `make setup`.
PYTHON ?= $(shell command -v python3.11 || echo python3)
BIN := .venv/bin
STAMP := .venv/.complete
# typings/ shows the type checker plugins/ and migrations/ under the names by which they are imported.
CODE := middlewared typings/middlewared_plugins typings/middlewared_migrations tests bench
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help setup run test test-full sim worlds sim-mutants crash check bench campaign failover-campaign crash-points quiet upgrade-test dist clean

help:  ## say what there is
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' Makefile | expand -t 20

setup: $(STAMP)  ## install what the system lacks, make .venv

$(STAMP): pyproject.toml requirements.lock packages.txt
	@.ci/install-packages
	@echo "Making .venv from requirements.lock"
	@test -x $(BIN)/pip || $(PYTHON) -m venv .venv
	@sed -n '/^setuptools==/,$$p' requirements.lock > .venv/build.lock  # builds what comes without a wheel
	@$(BIN)/pip install --quiet --require-hashes -r .venv/build.lock
	@$(BIN)/pip install --quiet --require-hashes --no-build-isolation --use-pep517 -r requirements.lock
	@$(BIN)/pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

run: setup  ## bring up two controllers on this machine and show them, until Ctrl-C
	@$(BIN)/middlewared-lab up

test: setup  ## run every test that takes no long time
	@$(BIN)/pytest -n 2 --dist loadfile

test-full: setup  ## run every test
	@$(BIN)/pytest --full -n 2 --dist loadfile

sim: setup  ## the pair under simulated faults: SEEDS=, FIRST=
	@$(BIN)/python -m middlewared.sim --seeds $(or $(SEEDS),2000) --first $(or $(FIRST),0) --processes 2

worlds: setup  ## who is active, in every small world of the pair
	@$(BIN)/python -m tests.protocol.worlds

sim-mutants: setup  ## seeded bugs, each of which the simulator must find
	@$(BIN)/python -m middlewared.sim.hunt

crash: setup  ## open what a crash or a failing disk leaves, at every call of the workloads of tests/crash: a quarter of an hour
	@$(BIN)/python -m tests.crash

check: setup  ## style, types and the floors
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --strict $(CODE)
	$(BIN)/pytest tests/test_floors.py

bench: setup  ## measure, against the references
	@.ci/install-packages packages-bench.txt
	@$(BIN)/python -m bench

campaign: setup  ## an hour of random faults under writers, in a real lab, and a check of the history: SEED=, WRITES=, MINUTES=
	@$(BIN)/python -m tests.campaign $(if $(SEED),--seed $(SEED)) --writes $(or $(WRITES),100000) --minutes $(or $(MINUTES),60)

failover-campaign: setup  ## power cuts of the active under a writer on a pool, then frost: CUTS=, SEED=
	@$(BIN)/python -m tests.failover cut --times $(or $(CUTS),20) $(if $(SEED),--seed $(SEED))
	@$(BIN)/python -m tests.failover freeze --times $(or $(CUTS),20) $(if $(SEED),--seed $(SEED))

crash-points: setup  ## a fault at every step of a handover, a promotion, a takeover: STEPS=PLAN:STEP,...
	@$(BIN)/python -m tests.failover.crash_points --steps "$(STEPS)"

quiet: setup  ## a pair that is only slow keeps its roles: busy, 30 % loss, fsync of 10 s: MINUTES= of each
	@$(BIN)/python -m tests.failover.quiet --minutes $(or $(MINUTES),10)

upgrade-test: setup  ## upgrade a pair of another version to this one under writers, in both orders: REV=
	@$(BIN)/python -m tests.upgrade $(if $(REV),--rev $(REV))

dist: setup  ## wheels of this and of all that it needs, from which a controller is installed without a network
	@rm -rf build dist && mkdir dist
	@$(BIN)/python .ci/runtime-lock > dist/requirements.lock
	@$(BIN)/pip wheel --quiet --require-hashes --no-build-isolation --use-pep517 --wheel-dir dist -r dist/requirements.lock
	@$(BIN)/pip wheel --quiet --no-deps --no-build-isolation --wheel-dir dist .
	@rm -rf build; ls dist/middlewared-*

clean:  ## end the lab, remove what was made
	@test ! -x $(BIN)/middlewared-lab || $(BIN)/middlewared-lab down --wipe
	rm -rf .venv build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis bench/out
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
