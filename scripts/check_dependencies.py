#!/usr/bin/env python3
"""Checks who may know whom: greps the include lines of every source file against the project's rules.

A rule is a function from one file (and its include lines) to messages; RULES below is the list. A folder's
permission holds for its mirror under tests/. tests/scripts/test_check_dependencies.py feeds each rule a file
that breaks it. Prints "file:line: what is wrong; what to do" and ends with 1 when something is.
"""

import argparse
import pathlib
import re
import subprocess
import sys

LAYERS = {  # folder -> the folders it may include from
    "models": {"models"},
    "traces": {"models", "traces"},
    "gpu": {"models", "traces", "gpu"},
    "sim": {"models", "traces", "sim"},
}
# Inside sim: main -> sweep -> engine -> {datapath, memory, design}. A file directly in sim/ is main, except the
# design point's (sim/design_*).
SIM_RANK = {"": 3, "sweep": 2, "engine": 1, "datapath": 0, "memory": 0, "design": 0}
SOURCE_SUFFIXES = {".h", ".cpp", ".cu", ".cuh"}
TEXT_SUFFIXES = SOURCE_SUFFIXES | {".py", ".sh", ".cmake", ".txt", ".yaml", ".json"}

INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*([<"])([^">]+)[">]', re.M)
SYSTEMC = re.compile(r"^(systemc|tlm)(\.h)?$|^(sysc|tlm_core|tlm_utils|tlm)/")
CUDA = re.compile(
    r"^(cuda|cublas|curand|cusparse|cusolver|nvml|nvrtc|nccl|cooperative_groups|device_launch_parameters"
    r"|vector_types|driver_types|mma)\w*\.(h|hpp)$|^(cub|thrust|cuda|cooperative_groups|nvtx3|cutlass|cute)/")
CUDA_WORDS = re.compile(r"__CUDACC__|__CUDA_ARCH__|__(?:device|global|host|shared)__")
EIGEN = re.compile(r"^(Eigen|unsupported/Eigen|eigen3)/")
HDF5 = re.compile(r"^(hdf5|hdf5_hl|H5\w*)\.h(pp)?$|^(hdf5|highfive|H5)/", re.I)
YAML = re.compile(r"^yaml-cpp/")
CSV = re.compile(r"^(libfccp/|fccp/)?csv\.h$")
TESTING = re.compile(r"^(gtest|gmock)/")
OUTSIDE = re.compile(r"\.\./" + r"shared\b")  # in two parts, so that this file does not match itself
HOMELESS = {"common", "util", "utils", "misc", "helpers"}


class Source:
    """One file: its path, the folder whose rules it follows, its text and include lines."""

    def __init__(self, path, text):
        self.path = path
        self.text = text
        parts = path.split("/")
        self.is_test = parts[0] == "tests"
        self.mirrored = "/".join(parts[1:]) if self.is_test else path  # the path without tests/
        self.top = self.mirrored.split("/")[0]
        self.includes = []  # (line, "<" or '"', name)
        if pathlib.PurePosixPath(path).suffix in SOURCE_SUFFIXES:
            for match in INCLUDE.finditer(text):
                line = text.count("\n", 0, match.start(2)) + 1
                self.includes.append((line, match.group(1), match.group(2)))

    def under(self, *folders):
        return any(self.mirrored == folder or self.mirrored.startswith(folder) for folder in folders)


def sim_part(path):
    """The part of sim a path belongs to: "" for sim/main.cpp, "engine" for sim/engine/x.h, "design" for sim/design_x.h."""
    parts = path.split("/")
    if len(parts) > 2:
        return parts[1]
    return "design" if parts[-1].startswith("design_") else ""


def layers(source):
    """models <- traces <- {gpu, sim}; gpu and sim never include each other; nothing includes a test."""
    for line, kind, name in source.includes:
        parts = name.split("/")
        from_test = parts[0] == "tests"
        target = parts[1] if from_test and len(parts) > 1 else parts[0]
        if name.startswith("."):
            yield line, f'"{name}": a relative include; write it from the root'
        elif target not in LAYERS:
            if kind == '"':
                yield line, f'"{name}": a quoted include that is not from models, traces, gpu or sim; write it from the root'
        elif from_test and not source.is_test:
            yield line, f'"{name}": only tests include from tests/'
        elif source.top in LAYERS and target not in LAYERS[source.top]:
            yield line, f'{source.top} must not know {target} ("{name}"); models <- traces <- {{gpu, sim}}'


def sim_order(source):
    """Inside sim: main -> sweep -> engine -> {datapath, memory, design}; datapath and memory are strangers."""
    if source.top != "sim" or source.path.endswith(".txt"):
        return
    part = sim_part(source.mirrored)
    if part not in SIM_RANK:
        yield 1, f"sim/{part}/ has no place in the order main -> sweep -> engine -> {{datapath, memory, design}}"
        return
    for line, _, name in source.includes:
        name = name.removeprefix("tests/")
        if not name.startswith("sim/"):
            continue
        other = sim_part(name)
        if {part, other} == {"datapath", "memory"}:
            yield line, f'sim/datapath and sim/memory do not know each other ("{name}")'
        elif SIM_RANK.get(other, 9) > SIM_RANK[part]:
            yield line, f'sim/{part} must not know sim/{other or name.split("/")[-1]} ("{name}"); it points up'


def permission(pattern, what, where, *, tests=False, main=()):
    """A rule: headers matching `pattern` only under `where` (and its mirror), or anywhere in tests/."""

    def rule(source):
        if source.under(*where) or source.mirrored in main or (tests and source.is_test):
            return
        for line, _, name in source.includes:
            if pattern.search(name):
                yield line, f"<{name}>: {what} only in {', '.join(list(where) + list(main))}{' and tests/' if tests else ''}"

    return rule


def cuda_files(source):
    """.cu and .cuh only under gpu/; models knows CUDA as one macro, defined in one header."""
    if source.path.endswith((".cu", ".cuh")) and source.top != "gpu":
        yield 1, "CUDA sources only under gpu/ (and tests/gpu/)"
    is_source = source.path.endswith(tuple(SOURCE_SUFFIXES))
    if is_source and source.top in {"traces", "sim", "models"} and source.mirrored != "models/host_device.h":
        match = CUDA_WORDS.search(re.sub(r"//.*", "", source.text))
        if match:
            yield 1, f"{match.group(0)}: outside gpu/ CUDA is known only as STOAT_HD (models/host_device.h)"


def tests_only(source):
    """GoogleTest only under tests/."""
    if not source.is_test:
        for line, _, name in source.includes:
            if TESTING.search(name):
                yield line, f"<{name}>: GoogleTest only under tests/"


def nothing_outside(source):
    """Nothing opens the shared folder beside the repository: facts are copied, with their sources."""
    for number, line in enumerate(source.text.split("\n"), 1):
        if OUTSIDE.search(line):
            yield number, "opens a folder outside the repository; copy the facts, with their source, into models/"


def every_thing_has_a_home(source):
    """No common/, no utils/."""
    for part in source.path.split("/")[:-1]:
        if part.lower() in HOMELESS:
            yield 1, f"{part}/: a folder without a subject; put the thing where its subject is"


RULES = [
    layers,
    sim_order,
    permission(SYSTEMC, "SystemC", ["sim/engine/"], main=["sim/main.cpp"]),
    permission(CUDA, "CUDA headers", ["gpu/"]),
    cuda_files,
    permission(EIGEN, "Eigen", ["models/attention/", "models/llm/"], tests=True),
    permission(HDF5, "HDF5", ["traces/"]),
    permission(CSV, "the CSV library", ["models/table"]),
    tests_only,
    nothing_outside,
    every_thing_has_a_home,
]


def one_yaml_reader(sources):
    """YAML only in the configuration reader: one .cpp with its header, whatever it is called."""
    readers = {}
    for source in sources:
        for line, _, name in source.includes:
            if YAML.search(name) and not source.is_test:
                readers.setdefault(str(pathlib.PurePosixPath(source.path).with_suffix("")), (source.path, line))
    if len(readers) > 1:
        for path, line in readers.values():
            yield path, line, f"yaml-cpp in {len(readers)} places ({', '.join(sorted(readers))}); only the configuration reader reads YAML"


def sim_cycles(sources):
    """datapath, memory and design have one rank, but their folders must not form a cycle."""
    edges = {}
    for source in sources:
        if source.top == "sim" and not source.is_test:
            for line, _, name in source.includes:
                ends = (sim_part(source.path), sim_part(name))
                if name.startswith("sim/") and ends[0] != ends[1]:
                    edges.setdefault(ends, (source.path, line))
    for (here, there), (path, line) in sorted(edges.items()):
        if (there, here) in edges and SIM_RANK.get(here) == SIM_RANK.get(there):
            yield path, line, f"sim/{here} and sim/{there} include each other"


TREE_RULES = [one_yaml_reader, sim_cycles]


def list_files(root):
    """Paths of text files under root: what git knows or would add; without git, all but build folders."""
    command = ["git", "-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    if (root / ".git").exists():
        listed = subprocess.run(command, cwd=root, check=True, capture_output=True).stdout
        names = [name.decode() for name in listed.split(b"\0") if name]
    else:
        names = [str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()]
        names = [name for name in names if not name.startswith(("build/", "install/", ".git/"))]
    return sorted({name for name in names if pathlib.PurePosixPath(name).suffix in TEXT_SUFFIXES})


def check(root):
    """All violations under root as (path, line, message), and how many files were read."""
    root = pathlib.Path(root)
    sources = []
    for name in list_files(root):
        path = root / name
        if path.is_file() and path.stat().st_size < 4 << 20:  # larger ones are data
            sources.append(Source(name, path.read_text(encoding="utf-8", errors="replace")))
    found = [(s.path, line, message) for s in sources for rule in RULES for line, message in rule(s)]
    found += [violation for rule in TREE_RULES for violation in rule(sources)]
    return sorted(found), len(sources)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--root", default=pathlib.Path(__file__).resolve().parent.parent)
    violations, files = check(parser.parse_args().root)
    for path, line, message in violations:
        print(f"{path}:{line}: {message}")
    print(f"check_dependencies: {files} files, {len(violations)} violations")
    return 1 if violations or not files else 0


if __name__ == "__main__":
    sys.exit(main())
