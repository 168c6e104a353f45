# make run: the main experiment.  make test: the tests.  make check: lint, types, layers, schema.
# Each target makes its own virtual environment in .venv first; `make PYTHON=python3.12 ...` chooses the interpreter.

PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
  $$p -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && echo $$p && break; done)
BIN := .venv/bin
STAMP := .venv/.installed
WORKERS ?= $(shell n=$$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 1); [ $$n -gt 2 ] && echo 2 || echo $$n)
PARTS := experiment:schema sweep:schema-sweep cluster:schema-cluster

.PHONY: run test test-slow test-cluster check schema setup clean

run: $(STAMP)
	$(BIN)/tokexp run experiments/seitpp.yaml

test: $(STAMP)
	$(BIN)/pytest -n $(WORKERS) --dist loadgroup -m "not slow and not gpu"

test-slow: $(STAMP)
	$(BIN)/pytest -n $(WORKERS) --dist loadgroup -m "slow and not gpu"

test-cluster: $(STAMP)
	$(BIN)/pytest tests/cluster

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	@for part in $(PARTS); do $(BIN)/tokexp schema --of $${part%:*} | cmp -s - docs/$${part#*:}.json \
	  || { echo "docs/$${part#*:}.json is not current: run make schema"; exit 1; }; done

schema: $(STAMP)
	@for part in $(PARTS); do $(BIN)/tokexp schema --of $${part%:*} --output docs/$${part#*:}.json; done

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@[ -n "$(PYTHON)" ] || { echo "tokexp needs Python 3.11 or newer with its venv module (Debian: apt-get install python3-venv)" >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch torchvision
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

clean:
	rm -rf .venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find tokexp tests -name __pycache__ -type d -prune -exec rm -rf {} +
