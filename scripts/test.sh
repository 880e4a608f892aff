#!/usr/bin/env bash
# Installs what is missing (apt), builds everything with warnings as errors and runs the whole test suite;
# ctest's summary is the last thing printed. Without nvcc or a browser their parts are left out, and said so.
#   usage: scripts/test.sh [--preset ci|release|dev|tsan|cpu-only|portable] [ctest's own arguments, e.g. -L unit]
set -euo pipefail
# shellcheck source=scripts/steps.sh
source "$(dirname "${BASH_SOURCE[0]}")/steps.sh"

preset=ci
if [ "${1:-}" = "--preset" ]; then
  preset=${2:?--preset needs a name}
  shift 2
fi

# A Slurm of its own only where nobody works: its packages start daemons.
extra=()
if [ -n "${CI:-}" ] && [ "$(id -u)" = 0 ]; then extra=(--slurm); fi
./scripts/install-deps.sh "${extra[@]}" </dev/null
step configure cmake --preset "$preset"
step build cmake --build --preset "$preset"

missing=()
mapfile -t missing < <(left_out)
command -v nvidia-smi >/dev/null || missing+=("runs on a GPU (no driver)")
command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null ||
  missing+=("the report in a browser (no chromium)")
{ clang-format-14 --version || clang-format --version | grep 'version 14\.'; } >/dev/null 2>&1 ||
  missing+=("the format check (no clang-format 14)")
{ [ "$(id -u)" = 0 ] && command -v slurmctld && command -v slurmd && command -v munged; } >/dev/null ||
  missing+=("sweeps on a real Slurm (needs root and scripts/install-deps.sh --slurm)")
if ((${#missing[@]})); then
  printf -v line '%s; ' "${missing[@]}"
  echo "== left out: ${line%; }"
fi
echo "== tests (the steps before took $((SECONDS - script_start)) s)"
cd "build/$preset"
exec ctest --output-on-failure -j "$jobs" "$@" </dev/null
