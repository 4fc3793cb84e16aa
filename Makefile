# Each target does its own set-up, again only if the requirements changed.

VENV := .venv
PYTHON ?= $(shell command -v python3.11 || command -v python3)
RUN := $(VENV)/bin/python
PROFILE := synthff

.DEFAULT_GOAL := help
.PHONY: help reproduce figures report synthff grid lab test lint clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo "PROFILE=smoke or PROFILE=ffpp runs another profile of utils/config.py than synthff"

reproduce: $(VENV)/.ready ## the main job: all notebooks in order; the last writes figures and report
	$(RUN) -m utils.runner --profile $(PROFILE) --only 01 02
	$(RUN) -m utils.grid --profile $(PROFILE) --groups notebooks
	$(RUN) -m utils.runner --profile $(PROFILE) --only 03 04 05 06 07

figures: $(VENV)/.ready ## every figure and table from the committed predictions (under a minute)
	$(RUN) -m utils.runner --profile $(PROFILE) --only 07

report: $(VENV)/.ready ## tables, figures and report/report.pdf from the committed predictions
	$(RUN) -m utils.report --profile $(PROFILE)

synthff: $(VENV)/.ready-synthff ## build the SynthFF videos anew (about an hour, resumes; the built set is committed)
	$(RUN) -m utils.synthff

grid: $(VENV)/.ready ## the comparison over seeds, the 18 cases, label counts and ablations (hours, resumes)
	$(RUN) -m utils.grid --profile $(PROFILE)

lab: $(VENV)/.ready ## open the notebooks in JupyterLab
	$(VENV)/bin/jupyter lab --notebook-dir notebooks

test: $(VENV)/.ready-synthff ## all tests, every notebook under the smoke profile among them
	$(RUN) -m pytest

lint: $(VENV)/.ready ## check the code's style
	$(RUN) -m ruff check utils tests

clean: ## remove caches, checkpoints and what other profiles wrote; keep what is committed and the environment
	rm -rf data/faces data/work build/failed .pytest_cache .ruff_cache
	find data/runs -name '*.safetensors' -delete 2>/dev/null || true
	find utils tests notebooks -name __pycache__ -prune -exec rm -rf {} +

$(VENV)/.ready: requirements.txt pyproject.toml
	@test -n "$(PYTHON)" && $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "error: Python 3.11 or newer is needed: install it, or name it by make PYTHON=..." >&2; exit 1; }
	@echo "setting up $(VENV) (several minutes, once)"
	test -x $(RUN) || $(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --disable-pip-version-check -r requirements.txt
	$(RUN) -m pip install --quiet --disable-pip-version-check --no-deps -e .
	@touch $@

$(VENV)/.ready-synthff: requirements-synthff.txt $(VENV)/.ready
	$(RUN) -m pip install --quiet --disable-pip-version-check -r requirements-synthff.txt
	@touch $@
