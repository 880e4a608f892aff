#!/usr/bin/env bash
# DRAM bytes of one decode step by hardware counter, against the bytes it must read (K + distinct V rows).
#   usage: scripts/gpu-counters.sh STOAT-BENCH OUT [further arguments for stoat-bench step]
# Writes OUT.json and OUT.csv. Needs ncu and a GPU whose counters may be read; clocks are left alone. Caches are not
# flushed between kernels (the codes stay in L2, as in a real step); K and V are cold.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
bench=${1:?usage: scripts/gpu-counters.sh STOAT-BENCH OUT}
out=${2:?usage: scripts/gpu-counters.sh STOAT-BENCH OUT}
shift 2
(($#)) || set -- --contexts 32768 --only "read K,read K and V,dense,score pass,prop S=128,prop S=1024,flash S=2048"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
metrics=dram__bytes_read.sum,dram__bytes_write.sum,lts__t_sectors_op_read.sum,lts__t_sectors_op_read_lookup_hit.sum
ncu --clock-control none --cache-control none --profile-from-start off --csv --page raw --print-units base \
  --metrics "$metrics" --log-file "$work/profile.csv" \
  "$bench" step --json "$work/step.json" "$@" || { tail -n 20 "$work/profile.csv" >&2; exit 4; }
python3 "$here/gpu_counters.py" --profile "$work/profile.csv" --steps "$work/step.json" --json "$out.json" --csv "$out.csv"
