#!/usr/bin/env bash
# Runs shellcheck over every shell script; ends with 77 (skipped) where shellcheck is not installed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
if ! command -v shellcheck >/dev/null; then
  echo "check-shell: skipped, shellcheck is not installed (./scripts/install-deps.sh --dev)"
  exit 77
fi
mapfile -t scripts < <(find scripts tests .ci -type f \( -name '*.sh' -o -path '.ci/run' \) | sort)
shellcheck --severity=warning --external-sources "${scripts[@]}"
echo "check-shell: ${#scripts[@]} scripts"
