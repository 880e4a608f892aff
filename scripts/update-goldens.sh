#!/usr/bin/env bash
# Shows how the golden files of the simulator would change, and changes them only with --yes.
#   ./scripts/update-goldens.sh [--yes] [BUILD_DIR]
set -euo pipefail
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
yes=0
build="$root/build/release"
for argument in "$@"; do
  case "$argument" in
    --yes) yes=1 ;;
    -h|--help) sed -n '2,3p' "${BASH_SOURCE[0]}"; exit 0 ;;
    -*) echo "update-goldens.sh: unknown option $argument; expected --yes" >&2; exit 2 ;;
    *) build="$argument" ;;
  esac
done
program="$build/tests/sim_golden_test"
if [[ ! -x "$program" ]]; then
  echo "update-goldens.sh: $program is not built; build the target sim_golden_test or name the build folder" >&2
  exit 2
fi
found="$(mktemp -d)"
trap 'rm -rf "$found"' EXIT
STOAT_GOLDEN_OUT="$found" "$program" --gtest_brief=1 >&2
changed=0
for file in "$found"/*.csv; do
  name="$(basename "$file")"
  diff -u "$root/tests/sim/golden/$name" "$file" || changed=1
done 2>&1
if [[ "$changed" == 0 ]]; then
  echo "The golden files are what the simulator finds."
elif [[ "$yes" == 1 ]]; then
  cp "$found"/*.csv "$root/tests/sim/golden/"
  echo "Golden files changed."
else
  echo "Nothing changed yet. If every line above is meant: $0 --yes $build"
  exit 1
fi
