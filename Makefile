# Everything works from a fresh clone with Python 3.11+ and pip. CI calls the same targets.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
TORCH ?= torch==2.13.0
OLDEST ?= transformers==5.3.0
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.DEFAULT_GOAL := all
.PHONY: all setup check fix test test-all oldest extras demo dinghy dinghy-pack bench generality clean

all: check test

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(TORCH)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $(READY)

check: $(READY)
	$(BIN)/ruff check src tests benchmarks docs
	$(BIN)/pyright --pythonpath $(BIN)/python
	PYTHONPATH=src $(BIN)/lint-imports --no-cache

fix: $(READY)
	$(BIN)/ruff check --fix src tests benchmarks docs
	$(BIN)/python docs/reference.py

test: $(READY)
	$(BIN)/python -m pytest -q -n 2

test-all: $(READY) oldest extras
	$(BIN)/python -m pytest -q -n 2 --dist loadfile -m "slow or browser or postgres"

# quantised and offloaded weights: torchao changes what transformers imports, so it has a place apart
extras: .venv-extras/.ready
	.venv-extras/bin/python -m pytest -q -m extras

.venv-extras/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-extras
	.venv-extras/bin/python -m pip install --quiet --disable-pip-version-check $(TORCH)
	.venv-extras/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,pyrit]' accelerate torchao bitsandbytes
	touch $@

# the oldest transformers that pyproject.toml allows
oldest: .venv-oldest/.ready
	.venv-oldest/bin/python -m pytest -q -n 2 tests/engines tests/test_invariants.py tests/trials tests/packs tests/training \
		tests/calibration tests/assessment tests/jobs

.venv-oldest/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-oldest
	.venv-oldest/bin/python -m pip install --quiet --disable-pip-version-check $(TORCH)
	.venv-oldest/bin/python -m pip install --quiet --disable-pip-version-check '$(OLDEST)' -e '.[dev]'
	touch $@

# the whole flow on the model that comes with sternpost; a second time it shows its result again
demo: $(READY)
	$(BIN)/sternpost demo --resume

# freed memory is not handed back: a fifth of a training step was spent on getting it again
KEEP_MEMORY = MALLOC_MMAP_THRESHOLD_=4294967296 MALLOC_TRIM_THRESHOLD_=8589934592

# that model, trained again and measured
dinghy: $(READY)
	$(KEEP_MEMORY) $(BIN)/python -m sternpost.dinghy
	$(BIN)/python -m sternpost.jobs.dinghy

# its levels, calibrated again, as the pack that comes with it; taken up again where it was left
dinghy-pack: $(READY)
	$(BIN)/python -m sternpost.jobs.dinghy_pack --ship

bench: $(READY)
	$(BIN)/python -m benchmarks

# does the finding hold on other SAEs, layers and bodies? hours; taken up again where it was left
generality: $(READY)
	$(KEEP_MEMORY) OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks generality

clean:
	rm -rf $(VENV) .venv-oldest .venv-extras dist build .pytest_cache .ruff_cache .hypothesis
