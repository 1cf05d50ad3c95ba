# Targets for people and for CI. `make help` lists them.
.PHONY: help test test-unit fuzz clean
FUZZTIME ?= 20s

help:            ## this list
	@sed -n 's/^\([a-z-]*\): *## */\1	/p;s/^\([a-z-]*\):  *## */\1	/p' Makefile

test: test-unit  ## everything that CI runs

test-unit:       ## gofmt, go vet and the tests that need no server
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { echo "gofmt these:"; gofmt -l $$(git ls-files '*.go'); exit 1; }
	go vet ./...
	go test -race ./...

fuzz:            ## each parser's fuzz targets, FUZZTIME each
	@for p in $$(go list ./...); do for f in $$(go test -list '^Fuzz' $$p | grep '^Fuzz'); do go test -run '^$$' -fuzz "^$$f$$" -fuzztime $(FUZZTIME) $$p || exit 1; done; done

clean:           ## remove what was built
	rm -rf bin build
