#!/usr/bin/env bash
# Runs shipped experiments and keeps their answers: results/NAME.csv and results/NAME.manifest.json beside this file,
# a report in the output folder. Finished points are kept in the output folder and never run twice.
#   scripts/experiments/run.sh [--stoat PROGRAM] [-o FOLDER] [NAME ...]    (all without a name)
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
stoat=$here/../../build/release/bin/stoat out=experiments
names=()
while (($# > 0)); do
  case "$1" in
    --stoat) stoat=${2:?--stoat needs a program}; shift ;;
    -o) out=${2:?-o needs a folder}; shift ;;
    -h | --help) sed -n '2,4s/^# \{0,1\}//p' "$0"; exit 0 ;;
    -*) echo "run.sh: unknown option '$1'; expected --stoat PROGRAM, -o FOLDER or names" >&2; exit 2 ;;
    *) names+=("$1") ;;
  esac
  shift
done
if ((${#names[@]} == 0)); then
  for file in "$here"/*.yaml; do names+=("$(basename "$file" .yaml)"); done
fi
[ -x "$stoat" ] || { echo "run.sh: no program $stoat; build it, or --stoat PROGRAM" >&2; exit 2; }
mkdir -p "$here/results" "$out"
for name in "${names[@]}"; do
  [ -r "$here/$name.yaml" ] || { echo "run.sh: no experiment '$name'" >&2; exit 2; }
  begin=$SECONDS
  code=0
  "$stoat" sweep run "$here/$name.yaml" -o "$out/$name" || code=$?
  [ "$code" = 0 ] || [ "$code" = 5 ] || exit "$code"
  cp "$out/$name/results.csv" "$here/results/$name.csv"
  cp "$out/$name/manifest.json" "$here/results/$name.manifest.json"
  if [ -e "$out/$name/failed.csv" ]; then cp "$out/$name/failed.csv" "$here/results/$name.failed.csv"; else rm -f "$here/results/$name.failed.csv"; fi
  more=()
  if [ "$name" = h200 ]; then more=(--measured "$here/../../gpu/results/decode_h200.json"); fi
  "$stoat" report "$out/$name" -o "$out/$name.html" "${more[@]}"
  echo "$name: $((SECONDS - begin)) s"
done
