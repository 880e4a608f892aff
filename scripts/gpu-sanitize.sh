#!/usr/bin/env bash
# compute-sanitizer (memcheck, racecheck, initcheck, synccheck) over the GPU tests, on a machine with a GPU.
#   usage: scripts/gpu-sanitize.sh [FOLDER OF TESTS (build/portable/tests)] [LOGS (a temporary folder)]
# Runs the tests named *Small* and sanitize_gpu_test: contexts 1, 257 and 32769 in one ragged batch, pages of 1 and 16,
# groups 3 and 7. STOAT_SANITIZE_TOOLS names fewer tools, STOAT_SANITIZE_LIMIT the seconds a run may take (240).
# Only the kernels are watched for what they do to memory; the tests' own results must hold too.
set -uo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
tests=${1:-$here/../build/portable/tests}
logs=${2:-$(mktemp -d)}
mkdir -p "$logs" || exit 4
command -v compute-sanitizer >/dev/null || { echo "gpu-sanitize: compute-sanitizer was not found (CUDA toolkit)" >&2; exit 4; }
read -r -a tools <<<"${STOAT_SANITIZE_TOOLS:-memcheck initcheck synccheck racecheck}"
failed=0 runs=0

for program in "$tests"/*_gpu_test; do
  [ -x "$program" ] || { echo "gpu-sanitize: no *_gpu_test in $tests" >&2; exit 2; }
  name=$(basename "$program")
  case $name in
    sanitize_gpu_test) filter='*' ;;
    bias_gpu_test) continue ;;  # hundreds of thousands of launches of kernels that the others cover
    *) filter='*Small*' ;;
  esac
  count=$("$program" --gtest_list_tests --gtest_filter="$filter" | grep -c '^  ')
  ((count > 0)) || continue
  for tool in "${tools[@]}"; do
    start=$SECONDS status=0
    log=$logs/$name.$tool.log
    options=(--tool "$tool" --error-exitcode 9 --print-limit 20)
    [ "$tool" != synccheck ] || options+=(--num-cuda-barriers 65536)  # blocks hold several barriers each
    timeout "${STOAT_SANITIZE_LIMIT:-240}" compute-sanitizer "${options[@]}" \
      "$program" --gtest_filter="$filter" >"$log" 2>&1 || status=$?
    runs=$((runs + 1))
    summary=$(grep -E 'ERROR SUMMARY|RACECHECK SUMMARY' "$log" | tail -n 1 | sed 's/^=* *//')
    if grep -q 'SKIPPED' "$log"; then status=4; fi  # no device: nothing was checked
    printf '%-22s %-10s %3d tests %4d s  %s\n' "$name" "$tool" "$count" $((SECONDS - start)) "${summary:-no summary}"
    if ((status != 0)) || [ -z "$summary" ]; then
      failed=$((failed + 1))
      echo "   exit code $status; $log:"
      grep -vE '^\[ +(RUN|OK) ' "$log" | head -n 25 | sed 's/^/   /'
    fi
  done
done
((runs > 0)) || { echo "gpu-sanitize: no test matched" >&2; exit 2; }
if ((failed)); then
  echo "gpu-sanitize: $failed of $runs runs failed; logs in $logs"
  exit 5
fi
echo "gpu-sanitize: $runs runs, nothing found"
