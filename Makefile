# `make help` shows what there is. Every step of .ci/run is one of these targets, so that a laptop and CI do the same.

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules

# Everything is compiled with -trimpath, as xcaddy does: the C code of PostgreSQL's parser is then compiled once
# for the binary and once for the tests (with the race detector), and never again.
GOTEST  := go test -trimpath
MODULE  := github.com/fairwaydb/fairway
TOOLS   := .build
VENV    ?= $(TOOLS)/venv
BUILT   ?= $(TOOLS)/drivers
DRIVERS := $(VENV)/ready $(addprefix $(BUILT)/,c/ready go/ready java/ready node/ready rust/ready)
REPORT  := $(TOOLS)/testreport
BENCH   := $(TOOLS)/bench

FUZZTIME        ?= 2m
BENCHTIME       ?= 1s
PGBENCH_SECONDS ?= 30
PROGRAMS        ?= 10000
BENCH_ARGS      ?=
DEMO_ARGS       ?=
DEMO            := ./caddy postgres-demo $(DEMO_ARGS)

##@ Build

.PHONY: build
build: need-cc $(TOOLS)/xcaddy ## ./caddy with this module, PostgreSQL's parser in C (by xcaddy)
	$(call xcaddy,1,caddy)

.PHONY: build-nocgo
build-nocgo: need-go $(TOOLS)/xcaddy ## ./caddy-nocgo, which needs no C compiler: the parser as WebAssembly (slower)
	$(call xcaddy,0,caddy-nocgo)

.PHONY: demo
demo: need-postgresql build ## A cluster of three real PostgreSQL servers and Fairway before it (DEMO_ARGS='--for 30s')
	$(DEMO)

.PHONY: clean
clean: ## Remove what was built (not Go's own cache)
	rm -rf caddy caddy-nocgo $(TOOLS)

##@ Test

.PHONY: test
test: test-unit test-integration ## All tests, with the race detector, on real PostgreSQL servers

.PHONY: test-unit
test-unit: need-postgresql need-java $(REPORT)
	$(GOTEST) -race -shuffle=on -timeout 15m -json $$(go list ./... | grep -v '/integration') | $(REPORT)

# By itself: the other packages' compiling and linking would starve the servers it measures.
.PHONY: test-integration
test-integration: need-postgresql $(DRIVERS) $(REPORT)
	$(INTEGRATION) $(GOTEST) -race -p 1 -timeout 30m -json ./integration/... | $(REPORT)

.PHONY: test-engine
test-engine: need-postgresql need-docker $(REPORT) ## Discovery with a real Docker engine, started for the test; needs root
	$(GOTEST) -tags engine -count=1 -timeout 10m -json ./integration/engine | $(REPORT)

.PHONY: race
race: test ## The same as test: it always runs with the race detector

.PHONY: cases
cases: need-cc need-postgresql $(REPORT) ## Every statement of the routing cases in every form, half a minute
	FAIRWAY_CASES=all $(GOTEST) -count=1 -json -run TestCases ./modules/session | $(REPORT)

.PHONY: nocgo
nocgo: need-postgresql need-java $(REPORT) ## The packages' tests without cgo
	CGO_ENABLED=0 $(GOTEST) -timeout 15m -json . ./caddyfile/... ./modules/... | $(REPORT)

.PHONY: nocgo-parser
nocgo-parser: need-go $(REPORT)
	CGO_ENABLED=0 $(GOTEST) -timeout 10m -json . ./modules/pgsql | $(REPORT)

.PHONY: integration
integration: need-postgresql $(DRIVERS) $(REPORT) ## Real servers and drivers, the pgbench runs at full length (PGBENCH_SECONDS=30)
	$(INTEGRATION) FAIRWAY_PGBENCH_SECONDS=$(PGBENCH_SECONDS) $(GOTEST) -p 1 -count=1 -timeout 60m -json ./integration/... | $(REPORT)

.PHONY: drivers
drivers: need-postgresql $(DRIVERS) $(REPORT) ## A program for each driver, against three servers and Fairway (docs/drivers.md)
	$(INTEGRATION) $(GOTEST) -p 1 -count=1 -timeout 15m -json -run '^TestDriver' ./integration | $(REPORT)

.PHONY: golden
golden: need-postgresql ## Rewrite the golden files and the generated pages
	$(GOTEST) . ./modules/postgres ./modules/demo ./modules/session -run 'Golden|Docs' -update

.PHONY: fuzz
fuzz: need-postgresql ## Each fuzz target for FUZZTIME=30s
	@grep -rHoE --include='*_test.go' '^func Fuzz[A-Za-z0-9_]+' caddyfile modules | while IFS=: read -r file name; do \
		echo "== $${name#func } ($${file%/*})"; \
		$(GOTEST) -run '^$$' -fuzz "^$${name#func }$$" -fuzztime $(FUZZTIME) "./$${file%/*}" </dev/null; \
	done

.PHONY: property
property: need-postgresql ## Random programs of eight clients get what they get alone (PROGRAMS=10000, half an hour; FAIRWAY_SEED=…)
	FAIRWAY_PROGRAMS=$(PROGRAMS) $(GOTEST) -count=1 -timeout 3h -run '^TestEightClients' -v ./modules/session

.PHONY: microbench
microbench: need-postgresql $(REPORT) ## Go's benchmarks (BENCHTIME=1s), and the tests that count allocations: the race detector makes some of its own
	$(GOTEST) -run Alloc -json ./modules/... | $(REPORT)
	$(GOTEST) -run '^$$' -bench . -benchmem -benchtime $(BENCHTIME) ./modules/... | grep -v 'no test files'

##@ Measure

.PHONY: bench
bench: $(BENCH) ## Fairway beside PgBouncer, Pgpool-II, HAProxy: the cells with a gate, in 10 minutes (BENCH_ARGS='--help' for more)
	$(BENCH) $(BENCH_ARGS)

.PHONY: bench-full
bench-full: $(BENCH) ## All of it, in 20 minutes, into docs/benchmarks.md and its plots
	$(BENCH) --full --page docs/benchmarks.md $(BENCH_ARGS)

.PHONY: bench-scale
bench-scale: $(BENCH) ## The curves alone (many clients, backends, statements), into docs/benchmarks.md
	$(BENCH) --scale --page docs/benchmarks.md $(BENCH_ARGS)

##@ Before a commit

.PHONY: check
check: lint test nocgo build modules ## What CI runs before a merge

.PHONY: lint
lint: need-cc $(TOOLS)/golangci-lint ## The linters of .golangci.yml, formatting, go.mod, shell scripts
	$(TOOLS)/golangci-lint run ./...
	go mod tidy -diff
	if command -v shellcheck >/dev/null; then shellcheck .ci/run tools/*.sh; else echo 'shellcheck is not installed: scripts not checked'; fi

.PHONY: fmt
fmt: $(TOOLS)/golangci-lint ## Format the code
	$(TOOLS)/golangci-lint fmt ./...

.PHONY: modules
modules: ## Compare what ./caddy registers with the list that the tests keep
	./caddy list-modules --packages --skip-standard | awk '$$2 ~ "^$(MODULE)" {print $$1}' | sort | diff -u testdata/modules.txt -

.PHONY: docs
docs: need-cc ## Write the generated pages: docs/metrics.md, docs/options.md
	$(GOTEST) ./modules/postgres -run Docs -update

.PHONY: help
help: ## This text
	@awk 'BEGIN {FS = ":.*## "} \
		/^##@ / {printf "\n%s\n", substr($$0, 5)} \
		/^[a-z-]+:.*## / {printf "  %-14s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

# --- below this line: how, not what ---

# What the integration tests are told: a Python that has the drivers, and where the other programs are.
INTEGRATION = FAIRWAY_PYTHON=$(abspath $(VENV))/bin/python FAIRWAY_DRIVERS=$(abspath $(BUILT))

# xcaddy builds a Caddy of the version that go.mod names, with this work tree in it.
# The made-up version spares xcaddy the look-up of a published one.
define xcaddy
	version=$$(go list -m -f '{{.Version}}' github.com/caddyserver/caddy/v2); \
	CGO_ENABLED=$(1) $(TOOLS)/xcaddy build "$$version" --output ./$(2) --with $(MODULE)@v0.0.0=.
endef

.PHONY: need-go need-cc need-postgresql need-python need-peers need-libpq need-java need-node need-rust need-docker
need-go:
	@tools/setup.sh go git
need-cc:
	@tools/setup.sh go git cc
need-postgresql:
	@tools/setup.sh go git cc postgresql
need-python:
	@tools/setup.sh python
need-peers:
	@tools/setup.sh peers
need-libpq:
	@tools/setup.sh cc libpq
need-java:
	@tools/setup.sh java
need-node:
	@tools/setup.sh node
need-rust:
	@tools/setup.sh rust
need-docker:
	@tools/setup.sh docker

$(TOOLS)/xcaddy: tools/xcaddy/go.mod | need-go
	go -C tools/xcaddy build -trimpath -o $(abspath $@) github.com/caddyserver/xcaddy/cmd/xcaddy

$(TOOLS)/golangci-lint: tools/lint/go.mod | need-go
	go -C tools/lint build -trimpath -o $(abspath $@) github.com/golangci/golangci-lint/v2/cmd/golangci-lint

# Built again each time, as the binary is that it measures.
.PHONY: $(BENCH)
$(BENCH): need-postgresql need-peers build
	go build -trimpath -buildvcs=false -o $@ ./bench

$(REPORT): tools/testreport/main.go | need-go
	go build -trimpath -buildvcs=false -o $@ ./tools/testreport

# The programs of the drivers: exact versions from the files beside the sources, built outside of them.
$(VENV)/ready: integration/drivers/python/requirements.txt | need-python
	python3 -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --disable-pip-version-check --requirement $<
	touch $@

$(BUILT)/c/ready: $(wildcard integration/drivers/c/*) | need-libpq
	mkdir -p $(@D)
	$${CC:-gcc} -std=c11 -O1 -Wall -Wextra -Werror -pthread -I "$$(pg_config --includedir)" -o $(@D)/libpq $< -L "$$(pg_config --libdir)" -lpq
	touch $@

$(BUILT)/go/ready: $(wildcard integration/drivers/go/* integration/drivers/go/*/*) | need-go
	mkdir -p $(@D)
	go -C integration/drivers/go build -trimpath -buildvcs=false -o $(abspath $(@D))/ ./pgx ./pq
	touch $@

$(BUILT)/java/ready: $(wildcard integration/drivers/java/*) | need-java
	mkdir -p $(@D)
	mvn --batch-mode --quiet --file integration/drivers/java/pom.xml dependency:copy-dependencies \
		-Dmdep.overWriteIfNewer=true -Dmdep.stripVersion=true -DoutputDirectory=$(abspath $(@D))
	javac -Xlint:all -Werror -cp $(@D)/postgresql.jar -d $(@D) integration/drivers/java/*.java
	touch $@

$(BUILT)/node/ready: integration/drivers/node/package.json integration/drivers/node/package-lock.json | need-node
	mkdir -p $(@D)
	cp $^ $(@D)/
	npm ci --prefix $(@D) --ignore-scripts --no-audit --no-fund --loglevel error
	touch $@

$(BUILT)/rust/ready: $(wildcard integration/drivers/rust/Cargo.* integration/drivers/rust/*/Cargo.toml integration/drivers/rust/*/src/*) | need-rust
	mkdir -p $(@D)
	cargo build --quiet --locked --manifest-path integration/drivers/rust/Cargo.toml --target-dir $(abspath $(@D))
	touch $@
