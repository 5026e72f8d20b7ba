# `make run` serves the whole API on this machine, `make test` checks everything; both set up what they need.

PORT ?= 3000
# How `make run` logs: text for people, json for programs.
LOGS ?= text

APP := .venv
SAM := .tools/sam
MINISTACK := .tools/ministack
CHECKOV := .tools/checkov
OPENAPI := .tools/openapi
DOCUMENT := functions/layer/scoring/openapi.json
SWAGGER_UI := functions/docs/swagger-ui
# Without npm the OpenAPI document is not linted, except in CI, where that fails.
NPM := $(or $(shell command -v npm),$(if $(CI),npm))
LINTERS := $(CHECKOV)/ready $(if $(NPM),$(OPENAPI)/ready)
READY := $(APP)/ready $(SAM)/ready $(MINISTACK)/ready $(SWAGGER_UI)/LICENSE
# Keeps the versions in place but for packages named so: make lock OPTIONS='--upgrade-package boto3'
LOCK = uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate \
	--custom-compile-command 'make lock' $(OPTIONS)
export SAM_CLI_TELEMETRY := 0
MAKEFLAGS += --no-print-directory

.PHONY: help run rules test coverage faults load bench lint format lock install emulator build clean

help:
	@echo "make run         serve the API on http://127.0.0.1:$(PORT) (PORT=..., LOGS=json), no Docker needed"
	@echo "make rules       check functions/layer/scoring/scorers/rules.json and print it as a table"
	@echo "make test        all checks and tests; with a Docker engine also the containers of 'sam local'"
	@echo "make coverage    branch coverage of functions/, some minutes; fails below 97 percent for the layer"
	@echo "make faults      the tests of faults at full length, some minutes; 'make test' has them in short"
	@echo "make load        two minutes of load, over HTTP and into the handlers: latencies, errors, exact counts"
	@echo "make bench       cold start and warm cost next to other ways to do it; PYTHON=... runs them, as Lambda python3.13"
	@echo "make lint        ruff, mypy, sam validate, checkov; with npm, also Spectral and Redocly for openapi.json"
	@echo "make format      let ruff format the code"
	@echo "make lock        pin the requirements by hash again, with uv, after a change in pyproject.toml"
	@echo "make install     set up the virtual environments only"
	@echo "make emulator    the DynamoDB and SQS for 'sam local start-api' and 'sam local invoke'"
	@echo "make build       'sam build' with the installed SAM CLI; ends with a warning if python3.13 is missing"
	@echo "make clean       remove what the others made"

run: $(READY)
	@exec $(SAM)/bin/python -m tests.local.stack --port "$(PORT)" --logs "$(LOGS)"

rules: $(APP)/ready
	@$(APP)/bin/python functions/layer/check_rules.py

test: lint
	@$(APP)/bin/python -m pytest

# The unit tests, and the tests of the connection, which need sockets.
coverage: $(READY)
	@$(APP)/bin/coverage run -m pytest tests/unit tests/integration/test_connection.py
	@$(APP)/bin/coverage report
	@echo "The layer alone, which needs 97 percent:"
	@$(APP)/bin/coverage report --include 'functions/layer/*' --fail-under 97 --format total

faults: $(READY)
	@$(APP)/bin/python -m pytest tests/faults --full

load: $(READY)
	@exec $(APP)/bin/python -m tests.performance.load

bench: $(READY)
	@exec $(APP)/bin/python -m tests.performance.comparison --write $(if $(PYTHON),--python "$(PYTHON)")

lint: $(READY) $(LINTERS)
	@$(APP)/bin/ruff check
	@$(APP)/bin/ruff format --check
	@$(APP)/bin/mypy
	@AWS_DEFAULT_REGION=us-east-1 $(SAM)/bin/sam validate --lint
	@$(CHECKOV)/bin/checkov
ifdef NPM
	@$(OPENAPI)/node_modules/.bin/spectral lint --fail-severity warn --ruleset tests/openapi/.spectral.yaml $(DOCUMENT)
	@REDOCLY_SUPPRESS_UPDATE_NOTICE=true $(OPENAPI)/node_modules/.bin/redocly lint --config tests/openapi/redocly.yaml \
		$(DOCUMENT)
else
	@echo "skipped: npm is not installed, so $(DOCUMENT) is not linted"
endif

format: $(READY)
	@$(APP)/bin/ruff format
	@$(APP)/bin/ruff check --fix

install: $(READY) $(LINTERS)

lock:
	@$(LOCK) pyproject.toml --output-file functions/layer/requirements.txt
	@$(LOCK) --group tests --constraint functions/layer/requirements.txt --output-file tests/requirements.txt
	@for group in sam ministack checkov; do \
		$(LOCK) --group $$group --output-file tests/local/requirements-$$group.txt || exit; \
	done
	@$(LOCK) --group docs --no-deps --output-file functions/docs/requirements.txt
	@$(LOCK) --group runtime --output-file tests/performance/requirements-runtime.txt
	@for folder in tests/performance/baselines/*/; do \
		$(LOCK) --group $$(basename $$folder) --output-file $${folder}requirements.txt || exit; \
	done

emulator: $(READY)
	@exec $(SAM)/bin/python -m tests.local.emulator

build: $(READY)
	@PATH="$(CURDIR)/$(APP)/bin:$$PATH" $(SAM)/bin/sam build
	@# The layer's own warning is one line among fifty that SAM CLI prints.
	@find .aws-sam/build/ScoringLayer -name '*.pyc' | grep -q . || \
		echo "warning: python3.13 is not on the PATH; the layer works, but is compiled at every cold start" >&2

clean:
	rm -rf $(APP) .tools $(SWAGGER_UI) .aws-sam .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage
	find functions tests events -name __pycache__ -exec rm -r {} +

$(APP)/ready: functions/layer/requirements.txt tests/requirements.txt
	@tests/local/virtualenv.sh $(APP) --editable . functions/layer/requirements.txt tests/requirements.txt

$(SAM)/ready: tests/local/requirements-sam.txt
	@tests/local/virtualenv.sh $(SAM) $<

$(MINISTACK)/ready: tests/local/requirements-ministack.txt
	@tests/local/virtualenv.sh $(MINISTACK) $<

$(CHECKOV)/ready: tests/local/requirements-checkov.txt
	@tests/local/virtualenv.sh $(CHECKOV) $<

$(OPENAPI)/ready: tests/openapi/package.json tests/openapi/package-lock.json
	@echo "Setting up $(OPENAPI) (once) ..."
	@rm -rf $(OPENAPI) && mkdir -p $(OPENAPI) && cp $^ $(OPENAPI)
	@npm ci --prefix $(OPENAPI) --ignore-scripts --no-audit --no-fund --loglevel error
	@touch $@

$(SWAGGER_UI)/LICENSE: functions/docs/Makefile functions/docs/requirements.txt | $(APP)/ready
	@echo "Setting up $(SWAGGER_UI) (once) ..."
	@$(MAKE) --silent -C functions/docs swagger-ui/LICENSE PYTHON="$(CURDIR)/$(APP)/bin/python"
