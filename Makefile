# `make run` serves the whole API on this machine; `make test` runs every check and test. Both install what they need.

PORT ?= 3000
# For `make stream`: how many rows to send, and how many per second; without RATE, as fast as possible.
ROWS ?= 20000
RATE ?=
# What decides in `make run` and `make stream`: rules, forest or shadow, as the template's parameter of this name.
Scorer ?= rules
export Scorer
# Log format of `make run` and `make stream`: text for people, json for programs.
LOGS ?= text
# For `make load`: the number of customers that the transactions are about; without it, they have no history.
CUSTOMERS ?=
# Port of the broker that `make broker` runs.
KAFKA_PORT ?= 9092
# For `make rules`, `make backtest` and `make train`: a rule set, a file of transactions, its field or column that is 1 for
# a fraud, and names of Parquet columns ("ts=timestamp").
RULES ?=
DATA ?=
LABEL ?=
COLUMNS ?=
# For `make backtest`: the model file of the candidate, reports to write, and the number of processes.
# For `make train`: the kind of model.
MODEL ?=
JSON ?=
HTML ?=
JOBS ?=
# For `make train`: the file to write, and the size of the model.
OUT ?=
TREES ?=
DEPTH ?=

APP := .venv
SAM := .tools/sam
MINISTACK := .tools/ministack
CHECKOV := .tools/checkov
OPENAPI := .tools/openapi
OFFLINE := .tools/offline
OFFLINE_TESTS := .tools/offline-tests
DOCUMENT := functions/layer/scoring/openapi.json
SWAGGER_UI := functions/docs/swagger-ui
# Without npm, the OpenAPI document is not linted; in CI, that fails.
NPM := $(or $(shell command -v npm),$(if $(CI),npm))
LINTERS := $(CHECKOV)/ready $(if $(NPM),$(OPENAPI)/ready)
READY := $(APP)/ready $(SAM)/ready $(MINISTACK)/ready $(SWAGGER_UI)/LICENSE
# Keeps the pinned versions. To update a package: make lock OPTIONS='--upgrade-package boto3'
LOCK = uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate \
	--custom-compile-command 'make lock' $(OPTIONS)
export SAM_CLI_TELEMETRY := 0
MAKEFLAGS += --no-print-directory

.PHONY: help run stream broker rules backtest train test coverage faults load bench lint lint-types lint-template \
	lint-document format lock install emulator build clean

help:
	@echo "make run         serve the API on http://127.0.0.1:$(PORT) (PORT=..., LOGS=json), no Docker needed; Scorer=forest lets a"
	@echo "                 model decide, and Scorer=shadow stores what it would have decided"
	@echo "make stream      send $(ROWS) card payments through Kafka, live, with alerts (ROWS=, RATE= per second, PORT=, LOGS=json,"
	@echo "                 Scorer=)"
	@echo "make broker      run a Kafka broker on 127.0.0.1:$(KAFKA_PORT) (KAFKA_PORT=...) for the clients in events/"
	@echo "make rules       check and print a rule set, and score events/transactions.jsonl with it (RULES=FILE)"
	@echo "make backtest    replay DATA=FILE with its history: what would RULES=FILE or MODEL=FILE decide differently, and with"
	@echo "                 LABEL=FIELD, how many frauds and how much money would each catch (JSON=FILE, HTML=FILE, COLUMNS=, JOBS=)"
	@echo "make train       train a model on labelled transactions (DATA=FILE, OUT=FILE; MODEL=lightgbm, RULES=FILE, TREES=, DEPTH=)"
	@echo "make test        run all checks and tests; with Docker, also in the containers of 'sam local'"
	@echo "make coverage    measure branch coverage of functions/; fails if the layer is below 97 percent"
	@echo "make faults      run the fault tests at full length, about 25 minutes; 'make test' runs a short version"
	@echo "make load        two minutes of load over HTTP and on the handlers; checks latencies, errors, counts (CUSTOMERS=500)"
	@echo "make bench       compare cold start and warm cost with other frameworks; PYTHON=python3.13 as on Lambda"
	@echo "make lint        run ruff, mypy, sam validate and checkov; with npm, also Spectral and Redocly"
	@echo "make format      format the code with ruff"
	@echo "make lock        pin the requirements by hash, after a change in pyproject.toml; needs uv"
	@echo "make install     install the virtual environments and linters only"
	@echo "make emulator    run the DynamoDB, SQS and SNS for 'sam local start-api' and 'sam local invoke'"
	@echo "make build       run the installed 'sam build'; ends with a warning if python3.13 is missing"
	@echo "make clean       remove everything that these commands made"

run: $(READY)
	@exec $(SAM)/bin/python -m tests.local.stack --port "$(PORT)" --logs "$(LOGS)"

stream: $(READY)
	@exec $(APP)/bin/python -m tests.local.stream --rows "$(ROWS)" --rate "$(RATE)" --port "$(PORT)" --logs "$(LOGS)"

broker: $(APP)/ready
	@exec $(APP)/bin/python -m tests.local.broker --port "$(KAFKA_PORT)"

rules: $(APP)/ready
	@$(APP)/bin/python functions/layer/check_rules.py $(if $(RULES),"$(RULES)")
	@$(APP)/bin/python -m functions.offline.backtest $(if $(RULES),--present "$(RULES)") events/transactions.jsonl

backtest: $(OFFLINE)/ready
	@PYTHONPATH=functions/layer $(OFFLINE)/bin/python -m functions.offline.backtest $(if $(RULES),--rules "$(RULES)") \
		$(if $(MODEL),--model "$(MODEL)") $(if $(LABEL),--label "$(LABEL)") $(if $(COLUMNS),--columns "$(COLUMNS)") \
		$(if $(JSON),--json "$(JSON)") $(if $(HTML),--html "$(HTML)") $(if $(JOBS),--jobs "$(JOBS)") $(if $(DATA),"$(DATA)")

train: $(OFFLINE)/ready
	@PYTHONPATH=functions/layer $(OFFLINE)/bin/python -m functions.offline.train $(if $(MODEL),--model "$(MODEL)") \
		$(if $(RULES),--rules "$(RULES)") $(if $(LABEL),--label "$(LABEL)") $(if $(TREES),--trees "$(TREES)") \
		$(if $(DEPTH),--depth "$(DEPTH)") $(if $(COLUMNS),--columns "$(COLUMNS)") "$(DATA)" "$(OUT)"

# Most tests wait for processes, so they run side by side. Two kinds run alone: those that measure, and those that
# Schemathesis generates, which have one name for all operations of the API, as pytest-xdist cannot handle.
ALONE := tests/performance tests/integration/test_generated.py
test: lint $(OFFLINE)/ready $(OFFLINE_TESTS)/ready
	@$(APP)/bin/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder \
		$(ALONE:%=--ignore %) --ignore tests/offline
	@PYTHONPATH=functions/layer $(OFFLINE_TESTS)/bin/python -m pytest tests/offline
	@$(APP)/bin/python -m pytest $(ALONE)

# The unit tests, and the tests of the connection, which need sockets.
coverage: $(READY)
	@$(APP)/bin/coverage run -m pytest tests/unit tests/integration/test_connection.py
	@$(APP)/bin/coverage report
	@echo "The layer alone, which needs 97 percent:"
	@$(APP)/bin/coverage report --include 'functions/layer/*' --fail-under 97 --format total

faults: $(READY)
	@$(APP)/bin/python -m pytest tests/faults --full

load: $(READY)
	@exec $(APP)/bin/python -m tests.performance.load $(if $(CUSTOMERS),--customers "$(CUSTOMERS)")

bench: $(READY) $(OFFLINE)/ready
	@exec $(APP)/bin/python -m tests.performance.comparison --write $(if $(PYTHON),--python "$(PYTHON)")

# Two at a time, since each linter uses one core.
lint: $(READY) $(LINTERS)
	@$(APP)/bin/ruff check
	@$(APP)/bin/ruff format --check
	@$(MAKE) --jobs 2 lint-types lint-template lint-document

lint-types:
	@$(APP)/bin/mypy

lint-template:
	@AWS_DEFAULT_REGION=us-east-1 $(SAM)/bin/sam validate --lint
	@$(CHECKOV)/bin/checkov

lint-document:
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

install: $(READY) $(LINTERS) $(OFFLINE)/ready $(OFFLINE_TESTS)/ready

lock:
	@$(LOCK) pyproject.toml --output-file functions/layer/requirements.txt
	@$(LOCK) --group tests --constraint functions/layer/requirements.txt --output-file tests/requirements.txt
	@for group in sam ministack checkov; do \
		$(LOCK) --group $$group --output-file tests/local/requirements-$$group.txt || exit; \
	done
	@$(LOCK) --group offline --constraint tests/requirements.txt --output-file functions/offline/requirements.txt
	@$(LOCK) --group offline_tests --constraint functions/offline/requirements.txt \
		--constraint tests/requirements.txt --output-file tests/offline/requirements.txt
	@$(LOCK) --group docs --no-deps --output-file functions/docs/requirements.txt
	@$(LOCK) --group runtime --output-file tests/performance/requirements-runtime.txt
	@for folder in tests/performance/baselines/*/; do \
		$(LOCK) --group $$(basename $$folder) --constraint functions/offline/requirements.txt \
			--output-file $${folder}requirements.txt || exit; \
	done

emulator: $(READY)
	@exec $(SAM)/bin/python -m tests.local.emulator

build: $(READY)
	@PATH="$(CURDIR)/$(APP)/bin:$$PATH" $(SAM)/bin/sam build
	@# SAM CLI prints the layer's own warning among fifty other lines.
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

$(OFFLINE)/ready: functions/offline/requirements.txt
	@tests/local/virtualenv.sh $(OFFLINE) $<

$(OFFLINE_TESTS)/ready: tests/offline/requirements.txt
	@tests/local/virtualenv.sh $(OFFLINE_TESTS) $<

$(OPENAPI)/ready: tests/openapi/package.json tests/openapi/package-lock.json
	@echo "Setting up $(OPENAPI) (once) ..."
	@rm -rf $(OPENAPI) && mkdir -p $(OPENAPI) && cp $^ $(OPENAPI)
	@npm ci --prefix $(OPENAPI) --ignore-scripts --no-audit --no-fund --loglevel error
	@touch $@

$(SWAGGER_UI)/LICENSE: functions/docs/Makefile functions/docs/requirements.txt | $(APP)/ready
	@echo "Setting up $(SWAGGER_UI) (once) ..."
	@$(MAKE) --silent -C functions/docs swagger-ui/LICENSE PYTHON="$(CURDIR)/$(APP)/bin/python"
