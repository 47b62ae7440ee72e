# `make` alone lists what there is. Everything runs in .venv, made from the hashed lock.
SHELL := /bin/bash
.DEFAULT_GOAL := help

# The embedded server has stubs for Python 3.11 to 3.13: take the first such interpreter on PATH.
fits = $(shell $(1) -c 'import sys; print(sys.version_info[:2] in ((3, 11), (3, 12), (3, 13)))' 2>/dev/null)
PYTHON ?= $(firstword $(foreach p,python3 python3.13 python3.12 python3.11,$(if $(filter True,$(call fits,$(p))),$(p))))
VENV := .venv
# What Python compiles is kept, whatever the environment says: the tests start hundreds of Pythons.
export PYTHONDONTWRITEBYTECODE :=
BIN := $(VENV)/bin
LOCKED := $(VENV)/.locked
READY := $(VENV)/.ready

# What `make demo` needs, where there is no .venv: half of the packages, neither torch nor CUDA.
DEMO := .venv-demo
DEMO_BIN := $(if $(wildcard $(READY)),$(BIN),$(DEMO)/bin)

.PHONY: demo help env lock bundle calibrate docs prometheus test fuzz test-bounds test-cluster test-image image helm cluster-up cluster-down check bench clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

env: $(READY) ## make .venv from requirements.lock (hashes checked)

$(LOCKED): requirements.lock
	@test -n "$(PYTHON)" || { echo "no Python 3.11, 3.12 or 3.13 on PATH: install one, or name it: make PYTHON=/path/to/python3.12"; exit 1; }
	@echo "making $(VENV) with $$($(PYTHON) --version): some 7 GB, three minutes or more"
	@$(PYTHON) -m venv --clear $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements.lock
	@touch $@

$(READY): $(LOCKED) pyproject.toml
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --no-index -e .
	@$(BIN)/python -m testbed.simulation.precompile
	@touch $@

$(DEMO)/.ready: requirements-demo.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "no Python 3.11, 3.12 or 3.13 on PATH: install one, or name it: make PYTHON=/path/to/python3.12"; exit 1; }
	@echo "making $(DEMO) with $$($(PYTHON) --version): 1.4 GB, some two minutes"
	@$(PYTHON) -m venv --clear $(DEMO)
	@$(DEMO)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements-demo.lock
	@$(DEMO)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	@echo "compiling the simulator, once: half a minute"
	@$(DEMO)/bin/python -m testbed.simulation.precompile
	@touch $@

demo: $(if $(wildcard $(READY)),,$(DEMO)/.ready) ## see it work: a real Triton measured and simulated, an HPA tuned, KIScaler beside it
	@$(DEMO_BIN)/kis demo $(ARGS)

# The server, and all extras but ray, which most people do without. requirements-demo.lock: the light core and the server.
lock: ## resolve pyproject.toml into requirements.lock again (needs uv)
	uv pip compile --quiet --universal --generate-hashes --no-header --no-annotate --no-emit-index-url --no-emit-find-links \
	  --extra serve --extra train --extra docs --extra dev --group server --python-version 3.11 pyproject.toml -o requirements.lock
	uv pip compile --quiet --universal --no-header --no-annotate --no-emit-index-url --no-emit-find-links --group server \
	  --python-version 3.11 pyproject.toml | grep -oE "^[a-z0-9._-]+==" | awk 'NR==FNR {want[$$0]; next} \
	  /^[a-zA-Z0-9]/ {split($$1, part, "=="); keep = (part[1] "==") in want} keep' - requirements.lock > requirements-demo.lock

# BUNDLE_PYTHON: the Python that goes along (its version is that of the machine's own packages); THERE: what the machine has.
bundle: env ## build/bundle: all that a machine without a network needs; THERE=packages.txt leaves those out
	@$(BIN)/python -m testbed.bundle.pack $(if $(BUNDLE_PYTHON),--python $(BUNDLE_PYTHON)) $(if $(THERE),--there $(THERE)) $(ARGS)

calibrate: env ## the whole loop: serve, replay, measure, fit, simulate, compare; QUICK=1 for a first look
	@$(BIN)/kis calibrate $(if $(QUICK),--quick) $(ARGS)

prometheus: env ## a Prometheus (yours, on PATH) over `kis serve --out results/serving`, with our rules: http://127.0.0.1:9090
	@mkdir -p results/prometheus
	@$(BIN)/python -c "import sys, yaml; print(yaml.safe_dump(yaml.safe_load(sys.stdin)['spec']))" \
	  < manifests/monitoring/rules.yaml > results/prometheus/rules.yml
	@prometheus --config.file=manifests/monitoring/prometheus.yml --storage.tsdb.path=results/prometheus/data \
	  --web.listen-address=127.0.0.1:9090 $(ARGS)

# NOISE=1 runs them as on a busy host: beside busy loops, their processes standing still for milliseconds (tests/noise.py).
NOISY = $(if $(NOISE),$(BIN)/python -m tests.noise -- )

# Twice as many processes as our machines have cores: much of what they do is to wait for servers.
test: env ## all tests: no GPU, no cluster; NOISE=1 as on a busy host
	@$(NOISY)$(BIN)/python -m pytest -n 4 --dist loadfile --no-loadscope-reorder $(ARGS)

# A minute of it is in `make test`. KEEP=folder: where inputs that fail are written; ARGS="--only traces/".
fuzz: env ## wrong files, pages and arguments for everything that kis reads; SECONDS=3600 for longer than ten minutes
	@$(BIN)/python -m tests.fuzz --seconds $(or $(SECONDS),600) $(if $(KEEP),--keep $(KEEP)) $(ARGS)

# The compiled loops are compiled once more for it, into a cache of its own: two and a half minutes of processor time.
test-bounds: env ## the worlds of the simulators' oracles with every array access checked
	@NUMBA_BOUNDSCHECK=1 NUMBA_CACHE_DIR=build/bounds-checked \
	  $(BIN)/python -m pytest --timeout 3600 tests/simulation/test_cluster_oracle.py tests/simulation/test_kernel_oracle.py $(ARGS)

cluster-up: env ## a real two-node Kubernetes on this machine (Linux, root, Go); INSTALL=1 installs missing packages
	@$(BIN)/python -m testbed.localcluster prepare $(if $(INSTALL),--install)
	@$(BIN)/python -m testbed.localcluster up $(ARGS)

cluster-down: env ## end it, from whatever state, and leave nothing
	@$(BIN)/python -m testbed.localcluster down

# LONG=1: with those that take minutes: faults, requests through changes, experiments, the differential.
# KIS_TEST_KUBECONFIG=/path/to/kubeconfig: on an existing cluster, without the tests that need the local one.
test-cluster: env ## the tests that need Kubernetes: on a cluster of their own, or KIS_TEST_KUBECONFIG's; NOISE=1 too
	@$(if $(KIS_TEST_KUBECONFIG),,$(BIN)/python -m testbed.localcluster prepare $(if $(INSTALL),--install))
	@$(NOISY)$(BIN)/python -m pytest tests/cluster -m "cluster$(if $(LONG),, and not long)" $(ARGS)

# BASE, MODELS, TAG, BUILDER: see there.
image: ## the container image kis-testbed; BASE=debootstrap asks no registry, MODELS=1 adds PyTorch
	@manifests/image/build.sh $(ARGS)

test-image: env ## the image that `make image` left, run as a pod runs it
	@$(BIN)/python -m pytest tests/test_image.py -m image $(ARGS)

# Go checks the sources against its checksum database. tests/test_chart.py finds the binary there, or helm on PATH.
HELM := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/kis/helm-3.21.4/helm
helm: $(HELM) ## Helm, built with Go, for the tests of charts/kis
$(HELM):
	@GOBIN=$(@D) GOFLAGS= CGO_ENABLED=0 go install -trimpath -ldflags "-s -w" helm.sh/helm/v3/cmd/helm@v3.21.4

check: env ## what CI checks first: style, types, layers
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

docs: env ## the documentation site, in build/site: open build/site/index.html
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict $(ARGS)

bench: env ## benchmarks: ratios within one run, off in `make test`
	@$(BIN)/python -m pytest tests/bench --benchmark-only --benchmark-disable-gc -s $(ARGS)

clean: ## remove the environment and caches; results stay
	rm -rf $(VENV) $(DEMO) build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
