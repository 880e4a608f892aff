#!/usr/bin/env bash
# Records the traces of traces/shipped on a machine with a GPU, from the shipped model at 4k and 32k tokens.
#   usage: scripts/record-traces.sh OUT [FOLDER OF PROGRAMS (build/portable/bin)]
# The prompts are made from this repository's own scripts (scripts/needle_tasks.py, fixed seeds), so anyone with the
# same sources records the same prompts. A trace is at most 4 MiB, all together at most 24 MiB; more is an error.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
[ $# -gt 0 ] || { echo "usage: scripts/record-traces.sh OUT [FOLDER OF PROGRAMS]" >&2; exit 2; }
out=$1
programs=${2:-$here/../build/portable/bin}
capture=$programs/stoat-capture
[ -x "$capture" ] || { echo "record-traces: $capture is missing; cmake --preset portable && cmake --build --preset portable" >&2; exit 2; }
mkdir -p "$out"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# The oldest scripts: text that does not change with every commit.
text=("$here"/needle_tasks.py "$here"/needle_model.py "$here"/needle_texts.py "$here"/train_needle.py)

record() { # NAME PROMPT OPTIONS...
  local name=$1 prompt=$2
  shift 2
  "$capture" --backend cuda --quiet --force --prompt "$work/$prompt/prompt.txt" --seed 1 -o "$out/$name.h5" "$@" >/dev/null
  rm -f "$out/$name.h5.run.json"
  printf '%-28s %9d bytes\n' "$name.h5" "$(stat -c %s "$out/$name.h5")"
}

for length in 4 32; do
  # A key and the votes (56 steps), and the votes alone (19 steps).
  python3 "$here/needle_tasks.py" --text "${text[@]}" --length $((length * 1024 - 64)) --seed $length --keys 8 \
    --votes $((length == 4 ? 96 : 512)) --questions 1 -o "$work/$length" >/dev/null
  both=(--questions "$work/$length/questions.jsonl")
  tail -n 1 "$work/$length/questions.jsonl" >"$work/$length/votes.jsonl"
  votes=(--questions "$work/$length/votes.jsonl")
  # Every row of layer 1 has its score codes kept: from them any method and budget is drawn again.
  record "needle_dense_scores_${length}k" $length --method dense --scores 1 --max-new $((length == 4 ? 16 : 4))
  record "needle_prop128_${length}k" $length --method prop --budget 128 "${both[@]}"
  record "needle_prop512_${length}k" $length --method prop --budget 512 "${both[@]}"
  record "needle_flash2048_${length}k" $length --method flash --budget 2048 "${votes[@]}"
  for draws in 2 4; do
    record "needle_ternary${draws}_${length}k" $length --method prop --budget 128 --score ternary \
      --ternary-draws $draws --ternary-coupling coupled --ternary-normaliser pow2 "${both[@]}"
  done
done

total=0
for file in "$out"/*.h5; do
  size=$(stat -c %s "$file")
  total=$((total + size))
  ((size <= 4 * 1024 * 1024)) || { echo "record-traces: $file has $size bytes, more than 4 MiB" >&2; exit 5; }
done
echo "$total bytes in all"
((total <= 24 * 1024 * 1024)) || { echo "record-traces: more than 24 MiB in all" >&2; exit 5; }
