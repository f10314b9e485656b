# make gate    judge this repository's models against baselines/   (the main job)
# make test    prove the judge: every test but the slow ones, and those of the docs
# make slow    those tests that start the most processes
# make compatibility   try perfsuite beside other people's pytest plugins
# make test-runtimes   try the runtimes that are extras: ONNX Runtime, OpenVINO
# make test-trainers   try the trainers that are extras: those of transformers, Accelerate, Lightning
# make zoo     put tiny models of all kinds through all techniques, and print what comes of it
# make docs    walk through the docs: every block, file and command in them, as tests
# make check   lint, strict types, layers
# make baseline   record what is measured as the new baselines; review the diff

PYTHON ?= python3.11
BIN := .venv/bin
READY := .venv/.ready
OTHERS := .venv/compatibility
RUNTIMES := .venv/runtimes
TRAINERS := .venv/trainers

.PHONY: gate test slow compatibility test-runtimes test-trainers zoo docs compiled check baseline clean

gate: $(READY)
	$(BIN)/pytest

# Once, not in each of the processes that tests start.
compiled: $(READY)
	$(BIN)/python -m compileall -q perfsuite

# One process for each core; torch's threads in them must not spin while they wait for one another.
test: compiled
	OMP_WAIT_POLICY=passive $(BIN)/pytest tests -m "not slow" -n auto --ignore=tests/docs --ignore=tests/compatibility --ignore=tests/runtimes --ignore=tests/trainers

slow: compiled
	OMP_WAIT_POLICY=passive $(BIN)/pytest tests -m slow -n auto --ignore=tests/runtimes --ignore=tests/trainers

compatibility: compiled $(OTHERS)/.ready
	$(BIN)/pytest tests/compatibility -n auto

test-runtimes: compiled $(RUNTIMES)/.ready
	PYTHONPATH="$(CURDIR)/$(RUNTIMES)" OMP_WAIT_POLICY=passive $(BIN)/pytest tests/runtimes -n auto

test-trainers: compiled $(TRAINERS)/.ready
	PYTHONPATH="$(CURDIR)/$(TRAINERS)" OMP_WAIT_POLICY=passive $(BIN)/pytest tests/trainers -n auto

# All of it before a release, and after a change of techniques: make test takes some, others each week.
zoo: compiled
	HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(BIN)/python -m tests.zoo

docs: compiled
	OMP_WAIT_POLICY=passive $(BIN)/pytest tests/docs -n auto

check: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

baseline: $(READY)
	$(BIN)/pytest --perf-update

clean:
	rm -rf .venv

# torch comes first and pinned: pulled in by another package it would bring CUDA along.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $(READY)

# Apart from the rest, so that all other tests show what works without them. What they need beside them is there.
$(RUNTIMES)/.ready: tests/runtimes/requirements.txt $(READY)
	rm -rf $(RUNTIMES)
	$(BIN)/python -m pip install --quiet --no-deps --target $(RUNTIMES) --constraint constraints.txt --requirement $<
	touch $@

$(TRAINERS)/.ready: tests/trainers/requirements.txt $(READY)
	rm -rf $(TRAINERS)
	$(BIN)/python -m pip install --quiet --no-deps --target $(TRAINERS) --constraint constraints.txt --requirement $<
	touch $@

# Where only these tests look: pytest loads every plugin that it finds, in all other tests, too.
$(OTHERS)/.ready: tests/compatibility/requirements.txt $(READY)
	rm -rf $(OTHERS)
	$(BIN)/python -m pip install --quiet --no-deps --target $(OTHERS) --constraint constraints.txt --requirement $<
	touch $@
