#!/usr/bin/env python3
"""Rewrites kernels and the headers they include so that a C++ compiler can build them for the CPU.

  rewrite_ptx.py ROOT OUT gpu/attention/score.cu... [--replace FILE OLD NEW]...

Inline PTX becomes calls of stoat::emulation::ptx (cuda_words.h), everything else stays as it is. PTX that is not in the
table below is an error with file and line: add it there. --replace changes a text that must occur in FILE: twins of a
kernel that a test has to reject.
"""
import argparse
import pathlib
import re
import sys

# What the PTX begins with -> the function that gets its operands, in their order, outputs first. The number of an operand
# that stands in the text ("wait_group 1") becomes an argument.
TABLE = [
    (r"mma\.sync\.aligned\.m16n8k16\.row\.col\.f32\.bf16\.bf16\.f32", "multiply_bf16"),
    (r"mma\.sync\.aligned\.m16n8k16\.row\.col\.f32\.f16\.f16\.f32", "multiply_fp16"),
    (r"ldmatrix\.sync\.aligned\.m8n8\.x4\.shared\.b16", "load_matrices"),
    (r"ld\.shared\.v4\.u32", "load_shared"),
    (r"ld\.shared\.u32", "load_shared_word"),
    (r"st\.shared\.u32", "store_shared_word"),
    (r"st\.global\.L2::cache_hint\.v4\.u32", "store_global"),
    (r"fence\.acq_rel\.gpu; red\.relaxed\.gpu\.global\.add\.u32", "add"),
    (r"ld\.(?:relaxed|acquire)\.gpu\.u32", "load_word"),
    (r"cp\.async\.cg\.shared\.global", "copy_async"),
    (r"cp\.async\.commit_group; cp\.async\.wait_group %0;", "commit_and_wait"),
    (r"cp\.async\.commit_group;", "commit"),
    (r"cp\.async\.wait_group (?:%0|(\d+));", "wait"),
    (r"cp\.async\.wait_all;", "wait_for_all"),
    (r"barrier\.cluster\.arrive\.", "arrive_at_cluster"),
    (r"barrier\.cluster\.wait\.", "wait_for_cluster"),
    (r"\{ \.reg \.u32 to, count; mapa\.shared::cluster\.u32 to, %0, 0;", "send_to_first"),
    (r"mbarrier\.init\.shared::cta\.b64 \[%0\], (?:%1|(\d+));", "init"),
    (r"mbarrier\.arrive\.shared::cta\.b64 _, \[%0\];", "arrive"),
    (r"\{\\n \.reg \.pred done;\\nagain:\\n mbarrier\.try_wait\.parity\.shared::cta", "wait_until_passed"),
    (r"\{\\n \.reg \.pred chosen;\\n elect\.sync _\|chosen, 0xffffffff;\\n @chosen cp\.async\.bulk\.", "bulk_copy"),
    (r"bar\.sync 1, %0;", "sync_some"),
    (r"mbarrier\.arrive\.expect_tx\.shared::cta\.b64", "expect"),
    (r"\{ \.reg \.pred p; mbarrier\.try_wait\.parity\.", "try_wait"),
    (r"fence\.mbarrier_init\.", "nothing"),
    (r"discard\.global\.L2", "discard_line"),
    (r"rcp\.approx\.ftz\.f64", "about_inverse"),
    (r"createpolicy\.", "policy"),
    (r"griddepcontrol\.", "nothing"),
    (r"$", ""),  # a value that the compiler shall keep
]
ASM = re.compile(r"\basm(?:\s+volatile)?\s*\(")
INCLUDE = re.compile(r'^#include "(gpu/[^"]+\.cuh)"', re.M)
TRIPLE = re.compile(r"\b(\w+)<<<(.*?)>>>\(", re.S)
DYNAMIC = re.compile(r"extern __shared__ (?:__align__\(128\) )?(uint4|std::byte) (\w+)\[\];")


def closing(text, at):
    """The place of the parenthesis that closes the one at `at`."""
    depth = 0
    for match in re.compile(r'"(?:[^"\\]|\\.)*"|[()]').finditer(text, at):
        depth += {"(": 1, ")": -1}.get(match.group(), 0)
        if depth == 0:
            return match.start()
    raise ValueError("a parenthesis is not closed")


def operands(text):
    """The expressions of all constraints, in their order."""
    found, at = [], 0
    while match := re.compile(r'"[=+]?[rlnfd]"\s*\(').search(text, at):
        at = closing(text, match.end() - 1)
        found.append(text[match.end():at].strip())
    return found


def call(body, place):
    """What stands in place of asm(body)."""
    template = re.match(r'\s*((?:"(?:[^"\\]|\\.)*"\s*)*)', body)
    text = "".join(re.findall(r'"((?:[^"\\]|\\.)*)"', template.group(1)))
    for pattern, name in TABLE:
        if match := re.match(pattern, text):
            if not name:
                return ";"
            numbers = [group for group in match.groups() if group]
            return f"stoat::emulation::ptx::{name}({', '.join(operands(body[template.end():]) + numbers)});"
    raise SystemExit(f"rewrite_ptx: {place}: no function for '{text}'; add it to the table and to cuda_words.h")


def rewrite(text, name):
    result, at = "", 0
    for match in ASM.finditer(text):
        end = closing(text, match.end() - 1)
        place = f"{name}:{text.count(chr(10), 0, match.start()) + 1}"
        result += text[at:match.start()] + call(text[match.end():end], place)
        at = text.index(";", end) + 1
    result += text[at:]
    result = DYNAMIC.sub(r"auto* const \2 = static_cast<\1*>(stoat::emulation::dynamic_shared());", result)
    result = TRIPLE.sub(r"stoat::emulation::queued(\1, \2)(", result)
    return result.replace("defined(__CUDACC__)", "1")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=pathlib.Path)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("kernels", nargs="+")
    parser.add_argument("--replace", nargs=3, action="append", default=[], metavar=("FILE", "OLD", "NEW"))
    arguments = parser.parse_args()
    waiting, seen, replaced = list(arguments.kernels), set(), set()
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        text = (arguments.root / name).read_text(encoding="utf-8")
        waiting += INCLUDE.findall(text)
        for number, (file, old, new) in enumerate(arguments.replace):
            if file == name and old in text:
                replaced.add(number)
                text = text.replace(old, new)
        target = arguments.out / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(rewrite(text, name), encoding="utf-8")
    for number, (file, old, _) in enumerate(arguments.replace):
        if number not in replaced:
            raise SystemExit(f"rewrite_ptx: '{old}' does not occur in {file}; the twin is none any more")
    return 0


if __name__ == "__main__":
    sys.exit(main())
