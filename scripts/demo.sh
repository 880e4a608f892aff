#!/usr/bin/env bash
# From nothing to a report: installs what is missing (apt), configures, builds the three programs and runs
# `stoat demo`. Arguments are the demo's own, e.g. ./scripts/demo.sh --help
set -euo pipefail
# shellcheck source=scripts/steps.sh
source "$(dirname "${BASH_SOURCE[0]}")/steps.sh"

./scripts/install-deps.sh </dev/null
step configure cmake --preset release
while read -r line; do echo "   left out: $line"; done < <(left_out)
step build cmake --build --preset release --target stoat stoat-capture stoat-trace
echo "== ready after $((SECONDS - script_start)) s; running: build/release/bin/stoat demo${*:+ $*}"
exec build/release/bin/stoat demo "$@"
