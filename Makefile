# Every target starts from a bare clone, and what is installed once is not installed again.
#
#   make quickstart ARGS="--config.train.steps=50"    any flag of the command, through ARGS
#   make test PYTHON=python3.12                       another Python, for a new .venv
#
PYTHON ?= python3
# The reference implementations that parity tests compare with are in PyTorch. On Linux its default
# wheel brings several GB of CUDA packages; its CPU build is enough, and PIP_ARGS can tell pip where
# to find it (--extra-index-url=...).
TORCH ?= torch==2.13.0
PIP_ARGS ?=
ARGS ?=

BIN := .venv/bin
PIP_INSTALL = $(BIN)/python -m pip install --quiet $(PIP_ARGS)

.PHONY: quickstart test test-all lint lock clean
.DEFAULT_GOAL := test

quickstart: .venv/.quickstart  ## A small model, trained on videos made here, and a page to look at.
	$(BIN)/python -m vivit_jax.main --config configs/quickstart.py --workdir runs/quickstart $(ARGS)

test: .venv/.test  ## The suite.
	$(BIN)/python -m pytest -n auto --dist worksteal $(ARGS)

test-all: .venv/.test  ## The suite with its slow tests: minutes each.
	$(BIN)/python -m pytest -n auto --dist worksteal -m "not gpu" $(ARGS)

lint: .venv/.lint  ## What .pre-commit-config.yaml runs, on every file.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

lock: .venv/.made  ## The versions and hashes that the image and one job of CI install, looked up anew.
	$(PIP_INSTALL) uv==0.13.9
	for extra in test gpu tpu; do $(BIN)/uv pip compile setup.py --quiet --upgrade --extra $$extra \
	  --universal --python-version 3.11 --generate-hashes --no-annotate \
	  --custom-compile-command "make lock" --output-file requirements/lock-$$extra.txt || exit 1; done

clean:  ## Removes all that these targets made, but not runs/.
	rm -rf .venv .cache .pytest_cache .ruff_cache build dist *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/.quickstart: setup.py | .venv/.made
	$(PIP_INSTALL) --editable .
	@touch $@

.venv/.test: setup.py | .venv/.made
	$(PIP_INSTALL) $(TORCH) --editable ".[test,parity]"
	@touch $@

# With what the tests need, so that pyright sees the same packages here as everywhere.
.venv/.lint: setup.py | .venv/.made
	$(PIP_INSTALL) $(TORCH) --editable ".[test,parity,lint]"
	@touch $@

.venv/.made:
	@$(PYTHON) -c "import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))" || { \
	  echo "Python 3.11, 3.12 or 3.13 is needed; '$(PYTHON)' is $$($(PYTHON) --version 2>&1)."; \
	  echo "Name another: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; } >&2
	$(PYTHON) -m venv .venv
	@touch $@
