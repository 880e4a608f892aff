#!/usr/bin/env bash
# Measures everything that stands under gpu/results, on a machine with a GPU, in under 4 minutes.
#   usage: scripts/gpu-results.sh OUT [FOLDER OF PROGRAMS (build/portable/bin)]
# Writes to OUT: decode_GPU (ours, read floors and, where python3 has PyTorch and Triton, the dense peers, in one
# run), bias_GPU, counters_GPU (where ncu is), each .json and .csv, and log.txt. Copy them to gpu/results, then run
# scripts/gpu_table.py and scripts/plot_gpu_results.py. STOAT_BIAS_DRAWS changes the seeds a case (65536).
set -uo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
out=${1:?usage: scripts/gpu-results.sh OUT [FOLDER OF PROGRAMS]}
programs=${2:-$here/../build/portable/bin}
bench=$programs/stoat-bench
[ -x "$bench" ] || { echo "gpu-results: $bench is missing; cmake --preset portable && cmake --build --preset portable" >&2; exit 2; }
gpu=$(nvidia-smi --query-gpu=name --format=csv,noheader -i 0 | awk '{print tolower($NF)}') || exit 4
mkdir -p "$out" || exit 4
failed=()

part() { # NAME COMMAND...: runs it; what fails is told at the end, the rest still runs
  local name=$1 start=$SECONDS
  shift
  echo "== $name"
  "$@" || { echo "== $name: exit code $?"; failed+=("$name"); }
  echo "== $name: $((SECONDS - start)) s"
}

measure() {
  if python3 -c 'import torch, triton' 2>/dev/null; then
    part "kernels and peers" python3 "$here/bench_peers.py" --bench "$bench" \
      --json "$out/decode_$gpu.json" --csv "$out/decode_$gpu.csv"
  else
    echo "== python3 has no PyTorch and Triton: no peers"
    part kernels "$bench" --full --json "$out/decode_$gpu.json" --csv "$out/decode_$gpu.csv"
  fi
  if command -v ncu >/dev/null; then
    part counters "$here/gpu-counters.sh" "$bench" "$out/counters_$gpu"
  else
    echo "== ncu was not found: no counters"
  fi
  part bias "$bench" bias --draws "${STOAT_BIAS_DRAWS:-65536}" --json "$out/bias_$gpu.json" --csv "$out/bias_$gpu.csv"
  if ((${#failed[@]})); then
    echo "== FAILED: ${failed[*]}"
    return 5
  fi
  echo "== all of it in $SECONDS s"
}

measure 2>&1 | tee "$out/log.txt"
