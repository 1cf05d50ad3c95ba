#!/usr/bin/env bash
# test.sh: the stages of `make test`, and how long each took. The embedded server, whose cold build takes
# longest, is built beside the others.
set -euo pipefail
cd "$(dirname "$0")/.."
export MAKEFLAGS=--no-print-directory
mkdir -p build
rm -f build/failed-once.txt
report=

# stage NAME COMMAND...
stage() {
  local name=$1 began=$SECONDS; shift
  echo "== $name"
  "$@" || { echo "== $name FAILED after $((SECONDS - began)) s" >&2; exit 1; }
  report+=$(printf '%5d s  %s' $((SECONDS - began)) "$name")$'\n'
}

engine_built() { wait "$engine" || { cat build/engine.log >&2; return 1; }; }

nice make engine > build/engine.log 2>&1 &
engine=$!
trap 'kill "$engine" 2>/dev/null || true' EXIT
stage "testbed" make testbed
stage "lint" make lint
stage "unit tests" make test-race
stage "product" make product
stage "engine, the rest of its build" engine_built
stage "engine tests" make test-engine
stage "quickstart" make quickstart
stage "integration tests" make test-integration
if [ -s build/failed-once.txt ]; then
  echo "Passed only when run again; each is a bug to be found:"
  cat build/failed-once.txt
fi
printf '%s%5d s  in all\n' "$report" "$SECONDS"
