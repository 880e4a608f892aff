#!/usr/bin/env python3
"""Checks that every header compiles alone: included first (and twice) by an otherwise empty file.

Include folders and definitions come from a file CMake writes. A header is checked again only when it, a header of ours it
includes, or the flags changed: the cache keeps the hash of what last passed. Headers that need CUDA (.cuh, or
anything that includes a CUDA header) are checked with nvcc when --nvcc is given and counted as left out otherwise.
"""

import argparse
import concurrent.futures
import hashlib
import json
import os
import pathlib
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from check_dependencies import CUDA, INCLUDE, list_files  # noqa: E402

WARNINGS = ["-Wall", "-Wextra", "-Wpedantic", "-Wshadow", "-Wconversion", "-Wno-sign-conversion",
            "-Wno-unused-function", "-Werror"]


def closure(root, header):
    """The header and every file of ours it includes, and whether a CUDA header is among the rest."""
    seen, stack, cuda = {}, [header], header.endswith(".cuh")
    while stack:
        name = stack.pop()
        path = root / name
        if name in seen or not path.is_file():
            continue
        seen[name] = path.read_bytes()
        for match in INCLUDE.finditer(seen[name].decode("utf-8", "replace")):
            stack.append(match.group(2))
            cuda = cuda or bool(CUDA.search(match.group(2)))
    return seen, cuda


def read_usage(path):
    """Compiler flags from the file CMake wrote. The compiler's own folder must not move up the search order."""
    words = [line.partition(" ")[::2] for line in pathlib.Path(path).read_text().split("\n")]
    folders = dict.fromkeys(value for kind, value in words if kind == "include" and value not in {"", "/usr/include"})
    defines = dict.fromkeys(value for kind, value in words if kind == "define" and value)
    return [part for folder in folders for part in ("-isystem", folder)] + [f"-D{define}" for define in defines]


def command_for(root, arguments, flags, cuda):
    """The compiler's command line; the source comes on stdin or, for nvcc, from a file it can name."""
    if cuda:
        return [arguments.nvcc, "-std=c++20", f"-arch={arguments.cuda_arch}", "-I", str(root), *flags, "-ptx", "-o", os.devnull]
    return [arguments.compiler, "-std=c++20", "-fsyntax-only", "-x", "c++", "-I", str(root), *flags, *WARNINGS, "-"]


def compile_alone(header, root, arguments, flags, cuda):
    """None, or what the compiler said."""
    text = f'#include "{header}"\n#include "{header}"\n'
    command = command_for(root, arguments, flags, cuda)
    if cuda:
        unit = pathlib.Path(arguments.cache).with_suffix("") / (header.replace("/", "_") + ".cu")
        unit.parent.mkdir(parents=True, exist_ok=True)
        unit.write_text(text)
        command.append(str(unit))
        text = None
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    return None if done.returncode == 0 else done.stderr


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--root", type=pathlib.Path, default=pathlib.Path(__file__).resolve().parent.parent)
    parser.add_argument("--compiler", default="c++")
    parser.add_argument("--nvcc", default="")
    parser.add_argument("--cuda-arch", default="sm_90a")
    parser.add_argument("--usage", help="file of lines 'include FOLDER' and 'define NAME=VALUE'")
    parser.add_argument("--cache", default=os.path.join(tempfile.gettempdir(), f"stoat-headers-{os.getuid()}.json"),
                        help="what has passed before, and CUDA units beside it")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 2)
    parser.add_argument("--folders", default="models;traces;gpu;sim;tests", help="top folders to look at")
    arguments = parser.parse_args()
    root = arguments.root.resolve()
    flags = read_usage(arguments.usage) if arguments.usage else []
    cache_path = pathlib.Path(arguments.cache)
    try:
        cache = json.loads(cache_path.read_text())
    except (OSError, ValueError):
        cache = {}

    folders = set(arguments.folders.split(";"))
    headers = [name for name in list_files(root) if name.endswith((".h", ".cuh")) and name.split("/")[0] in folders]
    passed, left_out, todo = {}, [], []
    for header in headers:
        files, cuda = closure(root, header)
        if cuda and not arguments.nvcc:
            left_out.append(header)
            continue
        digest = hashlib.sha256(repr((arguments.compiler, arguments.nvcc, flags, WARNINGS)).encode())
        for name in sorted(files):
            digest.update(name.encode() + b"\0" + files[name])
        key = digest.hexdigest()
        if cache.get(header) == key:
            passed[header] = key
        else:
            todo.append((header, key, cuda))

    failed = []
    with concurrent.futures.ThreadPoolExecutor(arguments.jobs) as pool:
        jobs = {pool.submit(compile_alone, header, root, arguments, flags, cuda): (header, key)
                for header, key, cuda in todo}
        for job in concurrent.futures.as_completed(jobs):
            header, key = jobs[job]
            complaint = job.result()
            if complaint is None:
                passed[header] = key
            else:
                failed.append((header, complaint))
    cache_path.write_text(json.dumps(passed, indent=1, sort_keys=True))
    for header, complaint in sorted(failed):
        print(f"{header}: does not compile alone; include what it uses\n{complaint}")
    note = f", {len(left_out)} left out (they need nvcc)" if left_out else ""
    print(f"check_headers: {len(headers)} headers, {len(todo)} compiled, {len(failed)} failed{note}")
    return 1 if failed or not headers else 0


if __name__ == "__main__":
    sys.exit(main())
