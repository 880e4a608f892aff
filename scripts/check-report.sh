#!/usr/bin/env bash
# Opens a report in headless Chromium with the network off; fails when its script complains, a figure stays empty or
# something is asked of the network; says how long it takes to open (scripts/report_browser.py does the work).
#   scripts/check-report.sh REPORT.html [-o FOLDER] [--runs N]    FOLDER receives screenshots (wide, grey, dark, narrow), a PDF
#   scripts/check-report.sh --speed [--stoat PROGRAM] [-o FOLDER] makes a sweep of 10,000 points (minutes) and opens its report
# Without Chromium it says so and does nothing (exit 0).
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
die() { echo "check-report: $*" >&2; exit 2; }

report='' speed=0 stoat=$here/../build/release/bin/stoat runs=1 shots=()
while (($# > 0)); do
  case "$1" in
    -o) [ $# -ge 2 ] || die "-o needs a folder"; shots=(--shots "$2"); shift ;;
    --runs) [ $# -ge 2 ] || die "--runs needs a number"; runs=$2; shift ;;
    --speed) speed=1 runs=5 ;;
    --stoat) [ $# -ge 2 ] || die "--stoat needs a program"; stoat=$2; shift ;;
    -h | --help) sed -n '2,6s/^# \{0,1\}//p' "$0"; exit 0 ;;
    -*) die "unknown option '$1'; expected REPORT.html [-o FOLDER] [--runs N] or --speed" ;;
    *) report=$1 ;;
  esac
  shift
done
if ((speed)); then
  [ -x "$stoat" ] || die "no program $stoat; build it, or --stoat PROGRAM"
  scratch=$(mktemp -d)
  trap 'rm -rf "$scratch"' EXIT
  "$stoat" sweep run "$here/ten_thousand.yaml" -o "$scratch/sweep"
  report=$scratch/ten_thousand.html
  "$stoat" report "$scratch/sweep" -o "$report" >/dev/null
fi
[ -n "$report" ] || die "which report? Expected REPORT.html [-o FOLDER]"
[ -r "$report" ] || die "$report: no such file"

# Markup that asks for anything from outside.
if grep -oE '<(script|img|iframe)[^>]* src="(https?:)?//[^"]*"|<link[^>]* href="(https?:)?//[^"]*"' "$report" >&2; then
  echo "check-report: the report loads something from the network" >&2
  exit 3
fi
code=0
python3 "$here/report_browser.py" "$report" --runs "$runs" "${shots[@]}" || code=$?
[ "$code" = 77 ] && exit 0
exit "$code"
