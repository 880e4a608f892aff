#!/usr/bin/env bash
# Opens a report in headless Chromium with the network off and fails when its script complains or a figure is empty.
#   scripts/check-report.sh REPORT.html [-o FOLDER]    FOLDER receives screenshots (wide, narrow, dark) and a PDF
# Without Chromium it says so and does nothing (exit 0).
set -euo pipefail

die() { echo "check-report: $*" >&2; exit 2; }

report='' out=''
while (($# > 0)); do
  case "$1" in
    -o) [ $# -ge 2 ] || die "-o needs a folder"; out=$2; shift ;;
    -h | --help) sed -n '2,4s/^# \{0,1\}//p' "$0"; exit 0 ;;
    -*) die "unknown option '$1'; expected REPORT.html [-o FOLDER]" ;;
    *) report=$1 ;;
  esac
  shift
done
[ -n "$report" ] || die "which report? Expected REPORT.html [-o FOLDER]"
[ -r "$report" ] || die "$report: no such file"

chromium=''
for name in chromium chromium-browser google-chrome; do
  if command -v "$name" >/dev/null; then chromium=$name; break; fi
done
if [ -z "$chromium" ]; then
  echo "check-report: skipped, no chromium here (apt-get install chromium)"
  exit 0
fi

# No network: a namespace of its own where that is allowed, and in any case a proxy that leads nowhere.
offline=()
if unshare -n true 2>/dev/null; then offline=(unshare -n); fi
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
url="file://$(realpath "$report")"
browse() {
  timeout 120 "${offline[@]}" "$chromium" --headless=new --no-sandbox --disable-gpu --hide-scrollbars \
    --user-data-dir="$scratch/profile" --proxy-server=127.0.0.1:9 --disable-background-networking \
    --enable-logging=stderr --v=0 --virtual-time-budget=20000 "$@" "$url"
}

browse --dump-dom >"$scratch/dom.html" 2>"$scratch/log" || { tail -n 5 "$scratch/log" >&2; die "the browser failed"; }
# The browser's own pages (chrome://) log too; they are not ours.
if grep 'CONSOLE' "$scratch/log" | grep -v 'source: chrome://' >"$scratch/console"; then
  cat "$scratch/console" >&2
  echo "check-report: the page's script complained" >&2
  exit 3
fi
figures=$(grep -o '<div class="plot" id=' "$report" | wc -l)
drawn=$(grep -o 'class="plot js-plotly-plot"' "$scratch/dom.html" | wc -l)
if ((drawn < figures || figures == 0)); then
  echo "check-report: $drawn of $figures figures were drawn" >&2
  exit 3
fi
# Markup that asks for anything from outside.
if grep -oE '<(script|img|iframe)[^>]* src="(https?:)?//[^"]*"|<link[^>]* href="(https?:)?//[^"]*"' "$report" >&2; then
  echo "check-report: the report loads something from the network" >&2
  exit 3
fi

if [ -n "$out" ]; then
  mkdir -p "$out"
  dark="--blink-settings=preferredColorScheme=0"
  browse --window-size=1280,8000 --screenshot="$scratch/wide.png" 2>/dev/null
  browse --window-size=500,9000 --screenshot="$scratch/narrow.png" 2>/dev/null
  browse --window-size=1280,8000 "$dark" --screenshot="$scratch/dark.png" 2>/dev/null
  browse --print-to-pdf="$scratch/print.pdf" --no-pdf-header-footer 2>/dev/null
  for file in wide.png narrow.png dark.png print.pdf; do
    [ -s "$scratch/$file" ] || die "the browser wrote no $file"
    cp "$scratch/$file" "$out/$file"
  done
fi
echo "check-report: $drawn figures drawn, no complaint, network off"
