# Targets for people and for CI; `make help` lists them. Debian packages that a target needs are
# installed by it, with one line saying what and why.
SHELL := /bin/bash
export GOTOOLCHAIN ?= local
FUZZTIME ?= 20s
TOOL := go tool -modfile=.ci/tools/go.mod
# The packages with tests that need servers.
INTEGRATION_FILES = $(shell git grep -l --untracked '^//go:build.*integration' -- '*_test.go' ':!deploy/engine')
# The two that take longest begin first.
INTEGRATION = ./worker/ ./starter/ $(filter-out ./worker/ ./starter/,$(addprefix ./,$(sort $(dir $(INTEGRATION_FILES)))))
# What the unit tests have tried is not tried again.
INTEGRATION_TESTS = $(shell grep -ho '^func Test[A-Za-z0-9_]*' $(INTEGRATION_FILES) | cut -d' ' -f2 | grep -v '^TestMain$$' | sort -u | paste -sd'|')
ENGINE_SOURCES := $(filter-out %_test.go,$(wildcard deploy/engine/*.go)) deploy/engine/go.mod deploy/engine/go.sum

# What links the clients of the clouds' disks, which take minutes to compile: once is enough.
CLOUDS = $(addprefix github.com/holdfast-pg/holdfast/,worker/clouds internal/snapshot/aws internal/snapshot/azure internal/snapshot/gcp)

# What leaves something out when it is short.
LONG = $(addprefix ./,$(sort $(dir $(shell git grep -l --untracked 'testing\.Short()' -- '*_test.go'))))

# What does something else without cgo.
PURE = ./internal/zstd ./internal/frame ./internal/bundle

.PHONY: help build engine product libzstd man quickstart test test-unit test-race test-engine test-integration test-kill test-matrix \
	lint bench fuzz testbed clean

help:              ## this list
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

build: product engine  ## the binaries, in bin/

product: libzstd   ## the binaries without the engine
	@mkdir -p bin
	go build -trimpath -o bin/holdfast ./starter/front
	go build -trimpath -o bin/holdfast-cli ./starter
	go build -trimpath -o bin/holdfast-worker ./worker
	go build -trimpath -o bin/holdfast-clouds ./worker/clouds

engine: bin/holdfast-engine  ## the embedded Temporal server; up to ten CPU minutes at the first time

bin/holdfast-engine: $(ENGINE_SOURCES)
	@mkdir -p bin
	@echo "building the embedded Temporal server: up to ten CPU minutes at the first time, seconds later"
	go build -C deploy/engine -trimpath -ldflags=-s -o ../../bin/holdfast-engine.new .
	mv bin/holdfast-engine.new $@

man: product       ## the manual pages, in build/man
	@bin/holdfast man build/man

quickstart:        ## from nothing to a restored backup, in one command
	@$(MAKE) --no-print-directory -j2 build
	@deploy/quickstart/run.sh

test:              ## everything that CI runs, with the time that each stage takes
	@.ci/test.sh

test-unit: libzstd ## the tests that need no server, under two minutes
	@.ci/need.sh gcc
	go test -short -timeout 5m ./...

test-race: libzstd ## the same with the race detector, whole where they are long, and without cgo
	@.ci/need.sh gcc
	@go test -race -short -timeout 5m $(filter-out $(CLOUDS),$(shell go list ./...))
	go test -timeout 5m $(CLOUDS) $(LONG)
	CGO_ENABLED=0 go test $(PURE)

test-engine: engine  ## the embedded server's own tests
	go vet -C deploy/engine -trimpath .
	go test -C deploy/engine -trimpath -vet=off -timeout 5m .

test-integration: build testbed  ## the tests that need PostgreSQL, Barman or Temporal
	@.ci/need.sh gcc
	@.ci/need.sh chromium
	@mkdir -p build
	$(TOOL) gotestsum --format pkgname-and-test-fails --hide-summary=skipped --packages='$(INTEGRATION)' \
		--rerun-fails=1 --rerun-fails-max-failures=4 --rerun-fails-run-root-test --rerun-fails-report=build/failed-once.txt \
		-- -tags integration -count=1 -p 2 -parallel 5 -timeout 45m -run '^($(INTEGRATION_TESTS))$$'

test-kill: build testbed  ## every kill point of every method; hours; KILL_FOR=30m ends a sitting, the next one goes on
	@mkdir -p build
	HOLDFAST_KILL=all HOLDFAST_KILL_FOR=$(KILL_FOR) HOLDFAST_KILL_RESULTS=$(CURDIR)/build/kill-results.jsonl \
		go test -tags integration -count=1 -v -parallel 12 -timeout 8h -run '^TestKill$$' ./worker

test-matrix: build testbed  ## every method on every version of PostgreSQL; MATRIX_FOR=10m ends a sitting
	@mkdir -p build
	HOLDFAST_MATRIX=all HOLDFAST_MATRIX_FOR=$(MATRIX_FOR) HOLDFAST_MATRIX_RESULTS=$(CURDIR)/build/matrix-results.jsonl \
		go test -tags integration -count=1 -v -parallel 4 -timeout 2h -run '^TestMatrix$$' ./worker

lint: libzstd      ## formatting, golangci-lint, go vet and workflowcheck
	$(TOOL) golangci-lint run --build-tags integration ./...
	go vet -tags integration,faults ./...
	$(TOOL) workflowcheck -test=false -config .ci/workflowcheck.yaml ./workflows/...

bench: build       ## the benchmarks of speed and memory, beside pgBackRest too
	@.ci/testbed.sh rivals
	go test -tags integration -count=1 -timeout 2h -run '^$$' -bench . $(INTEGRATION)
	go test -C deploy/engine -trimpath -vet=off -run '^$$' -bench .

fuzz: libzstd      ## each parser's fuzz targets, FUZZTIME each
	@for p in $$(go list ./...); do for f in $$(go test -list '^Fuzz' $$p | grep '^Fuzz'); do \
		go test -run '^$$' -fuzz "^$$f$$" -fuzztime $(FUZZTIME) $$p || exit 1; done; done

libzstd:
	@.ci/need.sh libzstd

testbed:           ## PostgreSQL 13, 15, 17 and 18, sshd, Barman and an S3 server for the tests; needs root where something is missing
	@.ci/testbed.sh

clean:             ## remove what was built
	rm -rf bin build
