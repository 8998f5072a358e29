# Whetstone's commands. `make demo` and `make test` are the two that a newcomer needs.

PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
TRL_STAMP := .venv-trl/.installed
READERS_STAMP := .venv-readers/.installed
WORKERS ?= 4
# The rules of the domain, without pages, browsers, child processes and long searches.
FAST := tests/primitives tests/annotate/judgments tests/annotate/pairs tests/annotate/projects tests/annotate/models \
  tests/annotate/imports tests/annotate/reports tests/annotate/queueing/test_queue.py tests/training/test_rounds.py \
  tests/training/test_plan.py tests/test_architecture.py tests/test_english.py tests/test_names.py tests/test_templates.py \
  tests/test_stylesheet.py --ignore tests/annotate/imports/test_fuzz.py
# Dozens of processes import the same modules: compiled once, when they are first used, and not by each of them.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup chromium fonts nginx demo stop loop paper test check test-chaos test-fuzz test-api test-security lint format screenshots templates bench-train bench-plan bench-sample bench-web bench-data gpu-check test-real starter architectures clean

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

setup: $(STAMP) ## Prepare the environment alone (.venv)

# The environment is complete when the stamp exists; a half-made one is made again.
$(STAMP): pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { \
	  echo "Whetstone needs Python 3.11: install it, or name it with 'make PYTHON=/path/to/python3.11'."; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || { \
	  echo "Whetstone needs Python 3.11, and $(PYTHON) is another version: name one with 'make PYTHON=...'."; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { \
	  echo "Python's venv module is missing: on Debian, 'apt-get install python3.11-venv'."; exit 1; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || { rm -rf $(VENV); $(PYTHON) -m venv $(VENV); }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile -c constraints.txt -e '.[engine,dev]'
	@touch $@

chromium: # Browser tests and screenshots need one; where apt may, it is installed.
	@[ -n "$$CHROMIUM" ] || command -v chromium-headless-shell >/dev/null || { \
	  [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && { apt-get -qq update && DEBIAN_FRONTEND=noninteractive \
	  apt-get -qq install -y chromium chromium-headless-shell >/dev/null; }; } || command -v chromium >/dev/null || \
	  command -v google-chrome >/dev/null || { \
	  echo "Browser tests need Chromium: install it, or set CHROMIUM to its path."; exit 1; }

demo: setup ## Serve a project to try; RESET=1 starts over, MODEL=smollm2 chats with a real model (93 MB)
	@$(BIN)/python manage.py demo $(if $(MODEL),--model $(MODEL)) $(if $(RESET),--reset) $(if $(PORT),--port $(PORT))

stop: setup ## Stop what `make demo` left running
	@$(BIN)/python manage.py demo --stop

loop: setup ## Three simulated rounds, and a table of what was learnt; MODEL=smollm2 takes a real chat model (up to an hour)
	@$(BIN)/python manage.py simulate $(if $(MODEL),--model $(MODEL)) --rounds 3 --judgments 150 \
	  --json var/loop$(if $(MODEL),-$(MODEL)).json

paper: setup ## The DPO paper in miniature, into docs/paper.md; SEEDS=3 repeats it, MODEL=smollm2 takes a real chat model
	$(BIN)/python -m benchmarks.paper $(if $(MODEL),--model $(MODEL)) --seeds $(or $(SEEDS),1)

lint: setup ## Format, lint, types and import rules, checked
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup ## Format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

check: setup lint ## Lint, types, imports and the fast tests, for everyday work; under 90 seconds
	$(BIN)/pytest -n $(WORKERS) --dist worksteal -q $(FAST)

test: setup chromium lint ## Everything: lint, types, imports, all tests on SQLite; the application's on PostgreSQL and Redis
	$(BIN)/python manage.py makemigrations --check --dry-run
	$(BIN)/pytest -n $(WORKERS) --dist worksteal -q
	$(BIN)/python -m tests.servers $(BIN)/pytest -n $(WORKERS) --dist worksteal -q tests/annotate tests/training tests/test_*.py

nginx: # The attack suite runs the documented proxy; where apt may, it is installed.
	@[ -x /usr/sbin/nginx ] || command -v nginx >/dev/null || { \
	  [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && \
	  { apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y nginx-light >/dev/null; }; } || { \
	  echo "The attack suite needs nginx: install it."; exit 1; }

test-chaos: setup ## Kills, full disks, wrong clocks, everybody at once, old migrations, the whole of make loop; 15 minutes
	$(BIN)/pytest -m chaos -n $(WORKERS) --dist worksteal -q tests/annotate tests/training
	$(BIN)/python -m tests.servers $(BIN)/pytest -m chaos -n $(WORKERS) --dist worksteal -q tests/annotate tests/training

test-fuzz: setup ## 20,000 random files through the page Import; 25 minutes
	$(BIN)/pytest -m fuzz -q tests/annotate/imports

test-api: setup chromium ## Thousands of requests that the schema of the API allows, and does not; 15 minutes
	$(BIN)/pytest -m slow -q tests/annotate/api tests/browser/test_api_page.py

test-security: setup chromium nginx ## Attacks on every address, form and page, counted; about 3 minutes
	$(BIN)/pytest -n $(WORKERS) --dist worksteal -q tests/security

test-real: setup chromium $(TRL_STAMP) $(READERS_STAMP) ## A real instruct model, other tools' readers, rare architectures; 10 to 40 minutes
	$(BIN)/pytest -m slow -n $(WORKERS) --dist worksteal -q tests/engine tests/training tests/browser/test_chat_demo.py \
	  tests/benchmarks tests/annotate/pairs tests/annotate/exports
	TQDM_DISABLE=1 $(BIN)/python -m benchmarks.real

fonts: # Pictures of Chinese, Japanese and emoji need their letters; where apt may, they are installed.
	@fc-list 2>/dev/null | grep -q NotoSansCJK && fc-list | grep -q NotoColorEmoji || { \
	  [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && { apt-get -qq update && DEBIAN_FRONTEND=noninteractive \
	  apt-get -qq install -y fontconfig fonts-noto-cjk fonts-noto-color-emoji >/dev/null; }; } || { \
	  echo "Pictures need the fonts Noto Sans CJK and Noto Color Emoji: install them."; exit 1; }

screenshots: setup chromium fonts ## Regenerate the pictures in docs/
	$(BIN)/python -m docs.screenshots

starter: setup ## Retrain the starter model (training/starter)
	$(BIN)/python -m training.engine starter training/starter

bench-train: setup $(TRL_STAMP) ## Our trainer against TRL's
	$(BIN)/python -m benchmarks.train

$(TRL_STAMP): benchmarks/constraints-trl.txt # TRL in an environment of its own
	@.venv-trl/bin/python -m pip --version >/dev/null 2>&1 || { rm -rf .venv-trl; $(PYTHON) -m venv .venv-trl; }
	.venv-trl/bin/python -m pip install --quiet --disable-pip-version-check -c $< trl peft
	@touch $@

$(READERS_STAMP): benchmarks/constraints-readers.txt # argilla and Label Studio in an environment of their own
	@.venv-readers/bin/python -m pip --version >/dev/null 2>&1 || { rm -rf .venv-readers; $(PYTHON) -m venv .venv-readers; }
	.venv-readers/bin/python -m pip install --quiet --disable-pip-version-check -c $< argilla label-studio-sdk
	@touch $@

templates: setup $(TRL_STAMP) ## What becomes of chats under TRL's chat templates (docs/templates.md)
	$(BIN)/python -m benchmarks.templates .venv-trl/lib/python3*/site-packages/trl/chat_templates

bench-plan: setup ## What a dry run predicts against what runs take; PROCESSOR=1 on a machine that is not idle
	$(BIN)/python -m benchmarks.plan $(if $(PROCESSOR),--processor) --write

bench-sample: setup ## Our sampler against plain generate
	$(BIN)/python -m benchmarks.sample

bench-web: setup ## Annotators under load
	$(BIN)/python -m benchmarks.web

bench-data: setup ## Rows a second and memory of imports and exports
	$(BIN)/python -m benchmarks.data
	$(BIN)/python -m benchmarks.data_out

architectures: setup ## Every causal class of transformers through the engine; writes docs/architectures.md (an hour)
	$(BIN)/python -m tests.architectures

gpu-check: setup ## What only a GPU can show: tests, precision, speed
	$(BIN)/python -m benchmarks.gpu_check

clean: ## Remove the environment and caches (var/ is kept)
	rm -rf $(VENV) .venv-trl .venv-readers .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
