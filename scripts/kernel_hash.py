#!/usr/bin/env python3
"""The hash of the attention kernels: of their token stream, so that comments and layout do not count.

Read are gpu/attention/*.{cu,cuh,h,cpp} and, of what these include, models/sampling and models/host_device.h. stoat-bench
carries the hash into its results; a result whose hash is not that of the sources is stale.
  kernel_hash.py                    prints it
  kernel_hash.py --cpp FILE         writes a .cpp that defines stoat::gpu::kernel_hash(), when it changed
  kernel_hash.py --against FILE...  says which result files are stale; exit 1 when one is
  kernel_hash.py --files            lists what is hashed
"""

import argparse
import hashlib
import json
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
SUFFIXES = {".cu", ".cuh", ".h", ".cpp"}
INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*"([^"]+)"', re.M)
FOLLOWED = re.compile(r"^(gpu/attention/|models/sampling/|models/host_device\.h$)")
TOKEN = re.compile(r"""
    (?P<skip>   //[^\n]*(?=\n|$) | /\*.*?\*/ | [ \t\r\f\v]+ )
  | (?P<line>   \n )
  | (?P<raw>    (?:u8|[uUL])?R"(?P<mark>[^()\\\s]{0,16})\(.*?\)(?P=mark)" )
  | (?P<text>   (?:u8|[uUL])?"(?:\\.|[^"\\\n])*" | (?:u8|[uUL])?'(?:\\.|[^'\\\n])*' )
  | (?P<number> \.?\d(?:[eEpP][+-]|'[0-9A-Za-z]|[\w.])* )
  | (?P<word>   [A-Za-z_]\w* )
  | (?P<sign>   <<<|>>>|<=>|<<=|>>=|\.\.\.|->\*|::|->|\+\+|--|<<|>>|<=|>=|==|!=|&&|\|\||\+=|-=|\*=|/=|%=|&=|\|=|\^=|\#\#|. )
""", re.X | re.S)


def tokens(text):
    """The tokens of C++ source, without comments. A directive ends with its line, so that counts as a token."""
    result, directive = [], False
    for match in TOKEN.finditer(re.sub(r"\\\r?\n", "", text)):
        kind = match.lastgroup if match.lastgroup != "mark" else "raw"
        if kind == "skip":
            continue
        if kind == "line":
            if directive:
                result.append("\n")
            directive = False
            continue
        directive = directive or (match.group() == "#" and not result[-1:] == ["#"])
        result.append(match.group())
    if directive:
        result.append("\n")
    return result


def hashed_files(root=ROOT):
    """Paths from the root, sorted: the kernels' folder and the headers it draws in."""
    found = {str(path.relative_to(root)) for path in (root / "gpu/attention").glob("*") if path.suffix in SUFFIXES}
    stack = list(found)
    while stack:
        for name in INCLUDE.findall((root / stack.pop()).read_text()):
            if FOLLOWED.match(name) and name not in found and (root / name).is_file():
                found.add(name)
                stack.append(name)
    return sorted(found)


def kernel_hash(root=ROOT):
    digest = hashlib.sha256()
    for name in hashed_files(root):
        for token in [name, *tokens((root / name).read_text())]:
            digest.update(token.encode() + b"\0")
    return digest.hexdigest()[:16]


def stale_files(paths, current):
    """(path, recorded hash or None) of every result file that was not measured on the current sources."""
    recorded = [(path, json.loads(pathlib.Path(path).read_text()).get("kernel_hash")) for path in paths]
    return [(path, found) for path, found in recorded if found != current]


CPP = """// Written by scripts/kernel_hash.py.
#include "gpu/bench/measure.h"

namespace stoat::gpu {{

const char* kernel_hash() {{ return "{}"; }}

}}  // namespace stoat::gpu
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cpp", type=pathlib.Path)
    parser.add_argument("--against", nargs="+")
    parser.add_argument("--files", action="store_true")
    parser.add_argument("--root", type=pathlib.Path, default=ROOT)
    arguments = parser.parse_args()
    if arguments.files:
        print("\n".join(hashed_files(arguments.root)))
        return 0
    current = kernel_hash(arguments.root)
    if arguments.cpp:
        text = CPP.format(current)
        if not arguments.cpp.exists() or arguments.cpp.read_text() != text:
            arguments.cpp.parent.mkdir(parents=True, exist_ok=True)
            arguments.cpp.write_text(text)
        return 0
    print(current)
    stale = stale_files(arguments.against or [], current)
    for path, found in stale:
        print(f"{path}: STALE, measured on kernels {found or 'without a hash'}; the sources are {current}; "
              "measure again with scripts/gpu-results.sh")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
