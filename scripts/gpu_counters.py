#!/usr/bin/env python3
"""Joins a profile by ncu with the bytes that stoat-bench step says each item must read. For scripts/gpu-counters.sh.

In the profile a kernel bench_mark of i + 1 blocks stands before the kernels of item i.
"""

import argparse
import csv
import json
import pathlib
import re
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import gpu_results  # noqa: E402

METRICS = {"dram__bytes_read.sum": "dram_read_bytes", "dram__bytes_write.sum": "dram_write_bytes",
           "lts__t_sectors_op_read.sum": "l2_read_sectors", "lts__t_sectors_op_read_lookup_hit.sum": "l2_read_hits"}
COLUMNS = ["kernel", "batch", "context", "must_read_bytes", "distinct_value_rows", *METRICS.values()]


def kernels(lines):
    """(name, blocks, {metric: number}) of each profiled kernel, and the most passes that one took."""
    passes = [int(found.group(1)) for line in lines if (found := re.search(r"(\d+) pass", line))]
    table = csv.DictReader(line for line in lines if line.startswith('"'))
    result = []
    for row in table:
        if not row["ID"].strip():  # the line of units
            continue
        blocks = 1
        for extent in re.findall(r"\d+", row["Grid Size"]):
            blocks *= int(extent)
        result.append((row["Kernel Name"], blocks, {name: float(row[name].replace(",", "")) for name in METRICS}))
    return result, max(passes, default=1)


def join(profiled, rows):
    item = None
    for row in rows:
        row.update({name: 0 for name in METRICS.values()}, kernels=[])
    for name, blocks, numbers in profiled:
        if "bench_mark" in name:
            item = rows[blocks - 1]
            continue
        if item is None:
            raise SystemExit(f"gpu_counters: {name} stands before the first mark")
        found = re.search(r"(\w+)[<(]", name)
        item["kernels"].append(found.group(1) if found else name)
        for metric, column in METRICS.items():
            item[column] += round(numbers[metric])
    missing = [row["kernel"] for row in rows if not row["kernels"]]
    if missing:
        raise SystemExit(f"gpu_counters: no kernels were profiled for {', '.join(missing)}")
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("--profile", "--steps", "--json", "--csv"):
        parser.add_argument(name, type=pathlib.Path, required=True)
    arguments = parser.parse_args()
    profiled, passes = kernels(arguments.profile.read_text().splitlines())
    steps = json.loads(arguments.steps.read_text())
    result = {**steps, "format": "stoat-counters", "passes": passes, "rows": join(profiled, steps["rows"])}
    if passes > 1:  # a second pass would find what the first left in L2
        print(f"gpu_counters: {passes} passes a kernel; the counts of small inputs may be too low", file=sys.stderr)
    gpu_results.write_json(arguments.json, result)
    gpu_results.write_csv(arguments.csv, result["rows"], COLUMNS)
    print(f"{'batch':>5} {'kernel':<16} {'must read':>13} {'DRAM read':>13} {'over':>7} {'DRAM write':>12} {'L2 hits':>8}")
    for row in result["rows"]:
        over = 100 * (row["dram_read_bytes"] / row["must_read_bytes"] - 1)
        hits = 100 * row["l2_read_hits"] / max(1, row["l2_read_sectors"])
        print(f"{row['batch']:>5} {row['kernel']:<16} {row['must_read_bytes']:>13} {row['dram_read_bytes']:>13} {over:>+6.2f}% "
              f"{row['dram_write_bytes']:>12} {hits:>7.1f}%")
    return 0


if __name__ == "__main__":
    sys.exit(main())
