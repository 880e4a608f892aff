"""Reads and writes the measurements of gpu/results, and derives what is said of them. No GPU, no third-party module."""

import csv
import json

TIMING_COLUMNS = ["by", "kernel", "batch", "context", "kv_layout", "p10_us", "median_us", "p90_us", "must_read_bytes",
                  "sm_mhz"]
DENSE = "dense"  # our own dense kernel among the rivals
COMPARED = "prop S=128"
FROM_CONTEXT = 8192  # from here on never slower than the fastest dense


def quantile(samples, p):
    """Nearest rank below, as stoat-bench has it."""
    return sorted(samples)[int(p * (len(samples) - 1))]


def percentiles(samples):
    return {"p10_us": quantile(samples, 0.1), "median_us": quantile(samples, 0.5), "p90_us": quantile(samples, 0.9)}


def write_json(path, result):
    """One row a line: the file is committed, and read by people too."""
    head = {key: value for key, value in result.items() if key != "rows"}
    text = json.dumps(head, indent=1, sort_keys=True)
    rows = ",\n  ".join(json.dumps(row, sort_keys=True, separators=(",", ":")) for row in result["rows"])
    path.write_text(text[:-2] + ',\n "rows": [\n  ' + rows + "\n ]\n}\n")


def write_csv(path, rows, columns):
    with open(path, "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows([[row.get(column, "") for column in columns] for row in rows])


def medians(rows):
    """{(batch, context): {name: median}}; peers are named with their layout."""
    table = {}
    for row in rows:
        name = row["kernel"] if row.get("by", "stoat") == "stoat" else f"{row['kernel']} {row['kv_layout']}"
        table.setdefault((row["batch"], row["context"]), {})[name] = row["median_us"]
    return table


def rivals(rows):
    """Names of the dense kernels that COMPARED is set against."""
    peers = [f"{row['kernel']} {row['kv_layout']}" for row in rows if row.get("by") == "peer"]
    return [DENSE, *dict.fromkeys(peers)]


def verdicts(rows):
    """One a shape: is COMPARED at most as slow as the fastest dense kernel of the same run?"""
    names, result = rivals(rows), []
    for (batch, context), median in sorted(medians(rows).items()):
        dense = {name: median[name] for name in names if name in median}
        if COMPARED not in median or not dense:
            continue
        fastest = min(dense, key=dense.get)
        result.append({"batch": batch, "context": context, "us": median[COMPARED], "fastest": fastest,
                       "fastest_us": dense[fastest], "times": dense[fastest] / median[COMPARED],
                       "must_hold": context >= FROM_CONTEXT, "holds": median[COMPARED] <= dense[fastest]})
    return result


def verdict_text(found):
    lines = [f"{COMPARED} against the fastest dense kernel of the same run (us, medians):",
             f"{'batch':>5} {'context':>7} {COMPARED:>11} {'fastest':>9}  {'times':>5}  verdict"]
    for one in found:
        verdict = "never slower: holds" if one["holds"] else "SLOWER" if one["must_hold"] else "slower (not demanded)"
        lines.append(f"{one['batch']:>5} {one['context']:>7} {one['us']:>11.2f} {one['fastest_us']:>9.2f}  "
                     f"{one['times']:>5.2f}  {verdict} ({one['fastest']})")
    return "\n".join(lines)
