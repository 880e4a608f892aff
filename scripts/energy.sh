#!/usr/bin/env bash
# Measures energy on a machine with a GPU, and records the traces that a simulator needs to say the same of it.
#   usage: scripts/energy.sh OUT [FOLDER OF PROGRAMS (build/portable/bin)] [stoat-bench options...]
# Writes OUT/energy_GPU.json (stoat-bench --energy: whole decode steps and attention alone, 32k tokens) and
# OUT/llama_{dense,prop128}_32k.h5, one decode step of the same shape, method and context with random weights.
# With the JSON in gpu/llm/results and the traces in traces/shipped, scripts/energy_table.py --simulate makes the table.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
[ $# -gt 0 ] || { echo "usage: scripts/energy.sh OUT [FOLDER OF PROGRAMS] [stoat-bench options...]" >&2; exit 2; }
out=$1
programs=${2:-$here/../build/portable/bin}
shift $(($# < 2 ? $# : 2))
for program in stoat-bench stoat-capture; do
  [ -x "$programs/$program" ] || { echo "energy: $programs/$program is missing; cmake --preset portable && cmake --build --preset portable" >&2; exit 2; }
done
gpu=$(nvidia-smi --query-gpu=name --format=csv,noheader -i 0 | awk '{print tolower($NF)}') || exit 4
mkdir -p "$out"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$programs/stoat-bench" --energy --json "$out/energy_$gpu.json" "$@"
# 32,767 tokens and one more; which ones does not matter to random weights.
awk 'BEGIN { for (i = 0; i < 32767; ++i) print (i * 7919 + 13) % 128256 }' >"$work/tokens.txt"
record() { # NAME OPTIONS...
  local name=$1
  shift
  "$programs/stoat-capture" --random-weights llama-3.1-8b --backend cuda --tokens "$work/tokens.txt" --max-new 1 \
    --ignore-eos --quiet --force -o "$out/$name.h5" "$@" >/dev/null
  rm -f "$out/$name.h5.run.json"
  echo "$name.h5: $(stat -c %s "$out/$name.h5") bytes"
}
record llama_dense_32k --method dense
record llama_prop128_32k --method prop --budget 128
