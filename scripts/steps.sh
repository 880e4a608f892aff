# shellcheck shell=bash
# For scripts/demo.sh and scripts/test.sh: runs long commands quietly, one line each with its time.
# Sets `repository` and `jobs`, changes to the repository's root. The full output of a step goes to
# build/log/STEP.log and is shown when the step fails.
# shellcheck disable=SC2034  # variables for the scripts that source this

repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$repository" || exit 1
jobs=$(nproc 2>/dev/null || echo 2)
export CMAKE_BUILD_PARALLEL_LEVEL=$jobs
script_start=$SECONDS

# step NAME COMMAND...  A terminal sees the last line of output change; elsewhere it is repeated every 30 s.
step() {
  local name=$1 log start=$SECONDS status=0 last pid
  shift
  mkdir -p build/log
  log=build/log/${name// /-}.log
  "$@" >"$log" 2>&1 </dev/null &
  pid=$!
  while kill -0 "$pid" 2>/dev/null; do
    sleep 0.5
    last=$(tail -n 1 "$log" | tr -d '\r' | cut -c 1-80)
    if [ -t 1 ]; then
      printf '\r\033[K   %-10s %4d s  %s' "$name" $((SECONDS - start)) "$last"
    elif (((SECONDS - start) % 30 == 29)); then
      printf '   %-10s %4d s  %s\n' "$name" $((SECONDS - start)) "$last"
      sleep 1
    fi
  done
  wait "$pid" || status=$?
  [ ! -t 1 ] || printf '\r\033[K'
  if ((status != 0)); then
    # A build's first errors may stand far above its last lines.
    { grep -n -m 3 -A 8 -E '(error:|Error |undefined reference)' "$log" || tail -n 25 "$log"; } | cut -c 1-300 >&2
    echo "== $name FAILED after $((SECONDS - start)) s; all of it: $repository/$log" >&2
    exit "$status"
  fi
  printf '== %-10s %4d s\n' "$name" $((SECONDS - start))
}

# What this build leaves out, in cmake's own words: the lines "stoat: X left out (why)" of a configure log.
left_out() { sed -nE 's/^-- stoat: (.*) left out (\([^)]*\)).*$/\1 \2/p' build/log/configure.log; }
