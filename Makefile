# `make demo` compresses the embedded generator; `make test` runs the tests. Each sets itself up.
PYTHON ?= python3
WORKERS ?= 2
BIN := .venv/bin

.PHONY: demo test lint docs matrix mutation reliability fuzz sbom clean

# Two thirds of `gancompress prune` alone, which ends better.
demo: .venv/.ready-demo
	$(BIN)/gancompress prune --recipe ppcd steps=530 finetune_steps=270

test: .venv/.ready-dev
	$(BIN)/python -m pytest -q -n $(WORKERS) --dist loadfile $(ARGS)

# Every kind of CPU arithmetic, numbers of threads, Pythons and torches; hours. ARGS=--help
matrix: .venv/.ready-dev
	WORKERS=$(WORKERS) $(BIN)/python tests/matrix/run.py $(ARGS)

# Faults planted one at a time: do the tests nearest to them notice? Half an hour. ARGS=--help
mutation: .venv/.ready-dev
	$(BIN)/python tests/mutation/run.py --jobs $(WORKERS) $(ARGS)

# Kills, damage, hostile files, full disks ...: does what was promised hold? Hours. ARGS=--help
reliability: .venv/.ready-dev
	$(BIN)/python -m benchmarks.reliability.campaign $(ARGS)
	$(BIN)/python -m benchmarks.reliability.table

# The same doors under coverage-guided fuzzing, ten minutes each; Linux. ARGS=--help
fuzz: .venv/.ready-dev
	$(BIN)/python -m pip install --quiet --disable-pip-version-check 'atheris>=2.3,<4'
	$(BIN)/python -m benchmarks.reliability.fuzz $(ARGS)
	$(BIN)/python -m benchmarks.reliability.table

# What an installation consists of (CycloneDX), and whether any of it has a known fault.
sbom: .venv/.ready-dev
	$(BIN)/python -m benchmarks.reliability.sbom $(ARGS)

# The site, in build/site: open build/site/index.html. Warnings are errors.
docs: .venv/.ready-docs
	$(BIN)/python .ci/site.py build/site

lint: .venv/.ready-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

# A stamp is as new as the last install, so a change of dependencies installs again.
.venv/.ready-demo: pyproject.toml .venv/.made
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[report]'
	@touch $@

.venv/.ready-dev: pyproject.toml .venv/.made
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@ .venv/.ready-demo

.venv/.ready-docs: pyproject.toml .venv/.made
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[docs,report]'
	@touch $@

.venv/.made:
	@PYTHON='$(PYTHON)' bash .ci/venv .venv
	@touch $@

clean:
	rm -rf .venv .venv-matrix build dist .pytest_cache .ruff_cache .hypothesis
