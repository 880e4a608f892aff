#!/usr/bin/env bash
# Checks (or with --fix applies) the repository's .clang-format on every C++ and CUDA file git knows or would
# add. Versions of clang-format disagree, so only 14 counts; without it the check ends with 77 (skipped).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

program=""
for candidate in clang-format-14 clang-format; do
  if "$candidate" --version 2>/dev/null | grep -q 'version 14\.'; then program=$candidate; break; fi
done
if [ -z "$program" ]; then
  echo "check-format: skipped, clang-format 14 is not installed (./scripts/install-deps.sh --dev on Debian 12)"
  exit 77
fi

# Outside a git checkout (a release archive): every source file that is not in a build folder.
if git -c safe.directory='*' rev-parse --git-dir >/dev/null 2>&1; then
  list() { git -c safe.directory='*' ls-files -z --cached --others --exclude-standard -- '*.h' '*.cpp' '*.cu' '*.cuh'; }
else
  list() {
    find models traces gpu sim tests -type f \( -name '*.h' -o -name '*.cpp' -o -name '*.cu' -o -name '*.cuh' \) -print0
  }
fi
files=()
while IFS= read -r -d '' file; do
  if [ -f "$file" ]; then files+=("$file"); fi
done < <(list)
if ((${#files[@]} == 0)); then
  echo "check-format: found no source files" >&2
  exit 1
fi
arguments=(--dry-run -Werror --ferror-limit=1)  # the first place in each file
[ "${1:-}" != "--fix" ] || arguments=(-i)
if ! printf '%s\0' "${files[@]}" | xargs -0 -n 1 "$program" --style=file "${arguments[@]}"; then
  echo "check-format: the files above differ; run ./scripts/check-format.sh --fix" >&2
  exit 1
fi
echo "check-format: ${#files[@]} files"
