# `make help` lists the targets. The first one to run makes .venv from requirements.lock.
PYTHON ?= python3
PROFILE :=
RECORDS ?=
OVERRIDES ?=
QUICK ?=
JOBS ?=

VENV := .venv
RUN := $(VENV)/bin/python
READY := $(VENV)/ready
NO_PROFILE = $(error PROFILE=$(PROFILE): $@ has $(or $(PROFILES_$@:%=PROFILE=%),no profiles))
NAME = $@$(if $(PROFILE),_$(or $(filter $(PROFILES_$@),$(PROFILE)),$(NO_PROFILE)))
PROFILES_fig6 := quick
PROFILES_figE4 := quick
PROFILES_figE5 := quick
PROFILES_figE6 := quick
PROFILES_figE7 := quick
PROFILES_fig7 := paper authors
PROFILES_figS2 := feedforward
PROFILES_figE3 := escape
DRAW = $(RUN) scripts/figure.py experiment=$(NAME)$(if $(RECORDS), records=$(RECORDS)) $(OVERRIDES)
THEORY := fig1 fig2 fig3 fig4 fig5 figS1 figS3 figE1 figE2
BEYOND := figE4 figE5 figE6 figE7
TRAINED := fig6 fig7 figS2 figE3
# what the numerical libraries take for the processor
MACHINES := old middle new
AS_old := NUMBA_CPU_NAME=generic ATEN_CPU_CAPABILITY=default OPENBLAS_CORETYPE=Haswell MKL_ENABLE_INSTRUCTIONS=AVX2 OMP_NUM_THREADS=1
AS_middle := NUMBA_CPU_NAME=haswell ATEN_CPU_CAPABILITY=avx2 OPENBLAS_CORETYPE=Zen OMP_NUM_THREADS=2
AS_new := OPENBLAS_CORETYPE=SkylakeX OMP_NUM_THREADS=4
SWEEP := hydra/launcher=joblib $(addprefix hydra.launcher.n_jobs=,$(JOBS))
PROCESSES := $(or $(JOBS),$(shell getconf _NPROCESSORS_ONLN 2>/dev/null || echo 1))

.DEFAULT_GOAL := help
.PHONY: help theory $(THEORY) $(BEYOND) $(TRAINED) claims report tables test test-slow test-machines $(MACHINES:%=test-as-%) torture lint doctor benchmark cuda-check clean
.DELETE_ON_ERROR:

help: ## list the targets
	@echo "make TARGET [PROFILE=quick|paper|authors|feedforward|escape] [OVERRIDES='surrogate.beta=5 ...'] [JOBS=$(PROCESSES)]"
	@sed -n 's/^\([a-z0-9A-Z-]*\):.*## \(.*\)/  \1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{printf "%-14s %s\n", $$1, $$2}'

fig1: ## one neuron: surrogate derivative = derivative of the expected spike
fig2: ## the chain rule over expectations is not the derivative of the expectation
fig3: ## gradient estimators in a tree of spike patterns: bias and variance
fig4: ## surrogate and true gradient can have opposite signs
fig5: ## around a closed loop the surrogate gradient does not integrate to zero
figS1: ## the deterministic surrogate gradient is one path: selection bias
figS3: ## left, right and combined smoothed derivative of one sample
figE1: ## bias and variance of every estimator over depth and steepness
figE2: ## surrogate gradients against exact gradients of spike times
theory: $(THEORY) ## all of these nine, without any training (about a minute)
figE4: ## shall back-propagation pass through the reset? (5 minutes; PROFILE=quick: one)
figE5: ## is bias reduction worth its cost? (10 minutes; PROFILE=quick: one)
figE6: ## does surrogate descent stop at a minimum of the expected loss? (8 minutes; PROFILE=quick: one)
figE7: ## is the mean surrogate gradient of spiking networks a gradient? (5 minutes; PROFILE=quick: one)

$(THEORY) $(BEYOND): $(READY)
	$(DRAW)

fig6: ## train and draw Figure 6 (minutes; PROFILE=quick: under a minute)
fig7: ## train and draw Figure 7, small (10 minutes; PROFILE=paper: hours; RECORDS=reference: seconds, no training)
figS2: ## train and draw Figure S2: back-propagation through the reset, four surrogates (hours; PROFILE=feedforward: 15 minutes)
figE3: ## steepness and escape functions (4 minutes; PROFILE=escape: ten seeds at one steepness); OVERRIDES="surrogate.beta=1,3,10" draws these values
$(TRAINED): $(READY)
	$(if $(RECORDS),,$(RUN) scripts/train.py -m experiment=$(NAME) $(SWEEP) $(OVERRIDES))
	$(DRAW)

claims: $(READY) ## every claim of the paper and its verdict; fails if one is contradicted and docs/ does not know of it (QUICK=1: from nothing, minutes)
	$(RUN) scripts/report.py $(if $(QUICK),--quick)

report: $(READY) ## figures/report.html: claims, figures, configurations and machines on one page
	$(RUN) scripts/report.py --html

tables: $(READY) ## renew the tables of results in README.md and docs/claims.md from figures/published
	$(RUN) scripts/report.py --tables

test: $(READY) ## run the test suite, one process for each core (minutes)
	$(RUN) -m pytest -n $(PROCESSES)

test-slow: $(READY) ## run the slow tests as well
	$(RUN) -m pytest -m "not torture"

test-machines: $(MACHINES:%=test-as-%) ## the suite as other processors and numbers of threads would run it (20 minutes)

$(MACHINES:%=test-as-%): test-as-%: $(READY)
	env $(AS_$*) $(RUN) -m pytest -q -n $(PROCESSES)

torture: $(READY) ## try to break it: kills at random moments, full disks, mutated files (tens of minutes)
	$(RUN) -m pytest -n $(PROCESSES) -m "torture or fuzz" --hypothesis-profile=torture

lint: $(READY) ## check style
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

doctor: $(READY) ## what a bug report needs, and what to do about each problem
	$(RUN) scripts/doctor.py

benchmark: $(READY) ## time and memory, side by side with plain PyTorch loops
	$(RUN) scripts/benchmark.py spike_matching

# needs no environment: the torch, triton, numpy and numba of the machine are enough
cuda-check: ## with a GPU: check and time everything on it (ten minutes); results in cuda-check.json
	$(or $(wildcard $(RUN)),$(PYTHON)) scripts/cuda_check.py $(if $(QUICK),--quick)

clean: ## remove the environment and caches; never data, runs or figures
	rm -rf $(VENV) build *.egg-info .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(READY): requirements.lock pyproject.toml
	test -x $(RUN) || $(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(RUN) -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	touch $(READY)
