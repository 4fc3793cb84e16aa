# Each target does its own set-up, again only if the requirements changed.

VENV := .venv
PYTHON ?= $(shell command -v python3.11 || command -v python3)
RUN := $(VENV)/bin/python
PIP := $(RUN) -m pip install --quiet --disable-pip-version-check
PROFILE := repeat

.DEFAULT_GOAL := help
.PHONY: help reproduce notebooks figures report replace-results synthff pool grid study score app model site slides plan lab test lint clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo "make reproduce PROFILE=smoke or PROFILE=ffpp runs another profile of utils/config.py"

reproduce: $(VENV)/.ready ## the main job, anew, below data/work/: all notebooks, figures, report; ends beside the committed results
	$(RUN) -m utils.run.reproduce --profile $(PROFILE) $(STRICT) $(RECORD) $(if $(SEEDS),--seeds $(SEEDS))

notebooks: $(VENV)/.ready ## execute the committed notebooks again from the committed results; trains nothing that they hold
	$(RUN) -m utils.run.notebooks

figures: $(VENV)/.ready ## tables, figures, report and README's numbers from the committed results (under a minute)
	$(RUN) -m utils.results.report

report: figures ## the same

replace-results: $(VENV)/.ready ## put what `make reproduce` gave in the place of the committed results
	$(RUN) -m utils.run.compare --replace --profile $(PROFILE)

synthff: $(VENV)/.ready-synthff ## build the SynthFF videos anew (about an hour, resumes; the built set is committed)
	$(RUN) -m utils.synthff

pool: $(VENV)/.ready-synthff ## build the people without labels of SynthFF's second release; PEOPLE=134: the first ones (hours, resumes; not committed)
	$(RUN) -m utils.synthff --release 2 --pool $(if $(PEOPLE),--first $(PEOPLE))

grid: GRID_PROFILE = $(if $(filter command line,$(origin PROFILE)),$(PROFILE),synthff)
grid: $(VENV)/.ready ## the comparison over seeds, the 18 cases, label counts and ablations, below data/work/ (hours, resumes)
	$(RUN) -m utils.run.extract --profile $(GRID_PROFILE) || test $$? = 1 # some videos can't be read: the rest is used
	$(RUN) -m utils.run.grid --profile $(GRID_PROFILE) $(if $(SEEDS),--seeds $(SEEDS))

study: $(VENV)/.ready ## what unlabelled video is worth: trains what is left of the study (hours, resumes); its tests are scored apart
	$(RUN) -m utils.run.study $(if $(SEEDS),--seeds $(SEEDS))

score: $(VENV)/.ready ## verdicts on the faces of VIDEO=clip.mp4 (OUT=folder for pictures): fake, real, or that it abstains, and why
	$(RUN) -m utils.run.score $(if $(OUT),--out "$(OUT)") $(if $(MODEL),--model "$(MODEL)") -- "$(VIDEO)"

app: $(VENV)/.ready ## the same as a page on this machine alone: drop a video, see verdicts, pictures, a time line
	$(RUN) -m utils.run.app

site: $(VENV)/.ready ## the notebooks, the report, a gallery and a quiz as a small static site, below build/site/
	$(RUN) -m utils.run.site

slides: $(VENV)/.ready ## ten slides from the same figures: build/slides.pdf
	$(RUN) -m utils.results.report --slides build/slides.pdf

model: $(VENV)/.ready ## train, calibrate and package anew the network that comes with the repository (half an hour)
	$(RUN) -m utils.run.extract --profile shipped
	$(RUN) -m utils.run.package

plan: $(VENV)/.ready ## what `make reproduce` and `make grid` of a PROFILE ask for: fits, steps, images, hours, disk; runs nothing
	$(RUN) -m utils.run.plan --profile $(PROFILE) $(if $(SEEDS),--seeds $(SEEDS))

lab: $(VENV)/.ready ## open the notebooks in JupyterLab
	$(VENV)/bin/jupyter lab --notebook-dir notebooks

# Two processes with one thread each: on two cores, quicker than one with two.
test: $(VENV)/.ready-synthff ## all tests, every notebook under the smoke profile among them
	OMP_NUM_THREADS=1 $(RUN) -m pytest -n 2 --dist loadfile --no-loadscope-reorder

lint: $(VENV)/.ready ## check the code's style
	$(RUN) -m ruff check utils tests benchmarks notebooks

clean: ## remove all that this machine has run, and caches; keep what is committed and the environment
	rm -rf data/work build/failed .pytest_cache .ruff_cache
	find utils tests notebooks -name __pycache__ -prune -exec rm -rf {} +

# Where the lock file was made, its hashes are checked; elsewhere, or over a PyTorch without CUDA, its versions alone.
LOCKED = $(RUN) -c 'import sys, platform, importlib.metadata as found; \
	cpu = [one for one in found.distributions() if one.metadata["Name"] == "torch" and "+cpu" in one.version]; \
	sys.exit((sys.version_info[:2], sys.platform, platform.machine()) != ((3, 11), "linux", "x86_64") or bool(cpu))'

$(VENV)/.ready: requirements.txt requirements.lock requirements-no-deps.txt pyproject.toml
	@test -n "$(PYTHON)" && $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "error: Python 3.11 or newer is needed: install it, or name it by make PYTHON=..." >&2; exit 1; }
	@echo "setting up $(VENV) (several minutes, once)"
	test -x $(RUN) || $(PYTHON) -m venv $(VENV)
	if $(LOCKED); then $(PIP) --no-compile --require-hashes -r requirements.lock; \
	else $(PIP) --no-compile -r requirements.txt; fi
	$(PIP) --no-compile --no-deps --require-hashes -r requirements-no-deps.txt
	$(PIP) --no-compile --no-deps -e .
	$(RUN) -m compileall -qq -j 0 -x "/tests?/" $(VENV)/lib || true # what pip does on one core; some templates are no Python
	@touch $@

$(VENV)/.ready-synthff: requirements-synthff.txt $(VENV)/.ready
	$(PIP) -r requirements-synthff.txt
	@touch $@
