#!/usr/bin/env python3
"""Writes the measured table of gpu/attention/README.md, between its two markers, from the committed results.

  gpu_table.py           rewrites the README
  gpu_table.py --check   exit 1 when the README's numbers are not the results'; a banner out of date is told
  gpu_table.py --print   the text alone
Results measured on other kernels than the sources' carry a banner (scripts/kernel_hash.py). No GPU needed.
"""

import argparse
import json
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import gpu_results  # noqa: E402
import kernel_hash  # noqa: E402

ROOT = kernel_hash.ROOT
README = ROOT / "gpu/attention/README.md"
RESULTS = ROOT / "gpu/results"
DECODE, BIAS, COUNTERS = "decode_h200.json", "bias_h200.json", "counters_h200.json"
BEGIN, END = "<!-- measured: begin (scripts/gpu_table.py) -->", "<!-- measured: end -->"
BATCHES, CONTEXT = (1, 4, 16), 32768
ROWS = ["read K", "read K overlapped", "read K and V", "score pass", "prop S=128", "prop S=1024", "flash S=2048", "dense",
        "score pass ternary B=1", "score pass ternary B=2", "prop S=128 ternary B=1"]
MUST = {"prop S=128": (23, 68, 248), "prop S=1024": (25, 72, 262), "flash S=2048": (28, 80, 290),
        "score pass": (18.5, None, None)}
DENSE_MARGIN = (1.08, 1.03, 1.03)  # own dense over the fastest dense
TRACE_BOUND = {128: 1.10, 512: 1.10, 2048: 1.25}


def digits(us):
    return f"{us:.1f}" if us < 100 else f"{us:.0f}"


def measured_rows(rows):
    """The table's rows at 32k tokens: [name, cells..., demanded]."""
    table = gpu_results.medians(rows)
    shapes = [table.get((batch, CONTEXT), {}) for batch in BATCHES]
    lines = []

    def add(name, cells, demanded=""):
        if any(cell is not None for cell in cells):
            lines.append([name, *("" if cell is None else digits(cell) for cell in cells), demanded])

    for name in ROWS:
        must = MUST.get(name)
        text = "" if must is None else " / ".join("" if m is None else f"{m:g}" for m in must).rstrip(" /")
        if name == "dense":
            text = " / ".join(f"{margin:.2f}" for margin in DENSE_MARGIN) + " x the fastest"
        if name.startswith("score pass ternary"):
            text = ternary_demand(rows, name, shapes)
        add(f"`{name}`" if name[:4] in ("prop", "flas", "dens") else name, [shape.get(name) for shape in shapes], text)
    peers = [name for name in gpu_results.rivals(rows) if name != gpu_results.DENSE]
    if peers:
        fastest = [min((shape[p], p) for p in peers if p in shape) if any(p in shape for p in peers) else None
                   for shape in shapes]
        lines.append(["fastest peer", *("" if f is None else f"{digits(f[0])} ({f[1]})" for f in fastest), ""])
    return lines


def ternary_demand(rows, name, shapes):
    """1.10 x (fraction of features that the group touches) x read-K time + 2 us, at batch 4 and 16."""
    touched = {row["batch"]: row.get("touched_fraction") for row in rows if row["kernel"] == name and row["context"] == CONTEXT}
    limits = [f"{1.1 * touched[batch] * shape['read K'] + 2:.0f}" if batch > 1 and touched.get(batch) and "read K" in shape else ""
              for batch, shape in zip(BATCHES, shapes)]
    fractions = [f"{fraction:.2f}" for fraction in [touched.get(BATCHES[-1])] if fraction]
    return " / ".join(["-", *limits[1:]]) + (f" ({fractions[0]} of the features)" if fractions else "")


def verdict_rows(rows):
    """For each context: ours, the fastest dense of the run, and how many times faster."""
    found = {(one["batch"], one["context"]): one for one in gpu_results.verdicts(rows)}
    lines = []
    for context in sorted({context for _, context in found}):
        cells = []
        for batch in BATCHES:
            one = found.get((batch, context))
            cells.append("" if one is None else
                         f"{digits(one['us'])}, {digits(one['fastest_us'])}: {one['times']:.2f}x"
                         + ("" if one["holds"] or not one["must_hold"] else " **slower**"))
        demanded = "1.00x or more" if context >= gpu_results.FROM_CONTEXT else "9.8 at b1"
        lines.append([f"`{gpu_results.COMPARED}`, fastest dense, {context // 1024}k", *cells, demanded])
    return lines


def method_text(rows):
    """How the times were taken: what a reader must know to compare them with others."""
    steps = sorted({row["steps_per_graph"] for row in rows if row["context"] == CONTEXT and "steps_per_graph" in row})
    if not steps:
        return ""
    least = min(row["rotated_bytes"] for row in rows)
    many = f"{steps[0]}" if len(steps) == 1 else f"{steps[0]} to {steps[-1]}"
    return (f"A step is one of {many} in a graph (at 32k; `steps_per_graph` in the JSON), as many as a model has layers, over K and V that "
            f"rotate through at least {least >> 20} MB; the peers' and the floors' graphs are the same. A score pass alone, whose codes nobody reads, "
            "stores them where a few sequences have theirs, as many as the L2 holds: beside a gather they are dropped before they leave it.")


def trace_text(rows):
    table, parts = gpu_results.medians(rows), []
    for name in ("prop S=128", "prop S=512", "prop S=2048", "flash S=2048"):
        costs = [shape[name + " traced"] / shape[name] for (_, context), shape in sorted(table.items())
                 if context == CONTEXT and name in shape and name + " traced" in shape]
        if costs:
            bound = TRACE_BOUND[int(name.split("=")[1])]
            parts.append(f"`{name}` {' / '.join(f'{100 * (c - 1):+.1f}' for c in costs)} % (at most {100 * (bound - 1):.0f} %)")
    return f"A trace costs, at 32k: {', '.join(parts)}." if parts else ""


def bias_text(result):
    rows = result["rows"]
    skewed = [row for row in rows if not row["flat"]]
    failed = [row["case"] for row in rows if row["failures"]]
    ratios = [row["draw_rms"] / row["systematic_rms"] - 1 for row in rows if row["method"] in ("prop", "sys")]
    participation = " ".join(f"{ratio:.0f}" for ratio in dict.fromkeys(row["participation"] for row in rows))
    text = (f"Bias over {rows[0]['draws']} spread seeds, {len(rows)} cases, participation ratios {participation}: against dense in double at most "
            f"{max(row['bias'] for row in skewed):.1e} of its norm on skewed inputs (demanded 1e-3); against the expectation of "
            f"the codes at most {max(abs(row['z_to_codes']) for row in rows):.1f} standard errors.")
    if ratios:
        text += (f" Per-draw error of `prop` and `sys`: {100 * min(ratios):+.1f} to {100 * max(ratios):+.1f} % of systematic sampling "
                 "in double (demanded 3 %).")
    flat = [row["bias_raw"] / row["noise_floor"] for row in rows if row["flat"]]
    if flat:
        text += f" On flat inputs the mean is off by at most {max(flat):.2f} x the Monte-Carlo floor (demanded 3)."
    lr = [row["largest_remainder_bias"] for row in skewed if row["method"] == "prop" and row["budget"] == 128]
    if lr:
        text += f" Largest-remainder budgets would be off by {min(lr):.3f} to {max(lr):.3f}."
    return text + (f" **Failed**: {'; '.join(failed)}." if failed else "")


def counters_text(result):
    parts = [f"`{row['kernel']}` b{row['batch']} {100 * (row['dram_read_bytes'] / row['must_read_bytes'] - 1):+.1f} % "
             f"(writes {row['dram_write_bytes'] / 1e6:.1f} MB)"
             for row in result["rows"] if row["kernel"] in ("prop S=128", "prop S=1024", "flash S=2048", "dense")]
    return f"DRAM bytes read, by counter at 32k, over K + distinct V rows (K + V for dense; demanded 2 %): {', '.join(parts)}." if parts else ""


def table(lines):
    head = ["µs, medians", *(f"b{batch}" for batch in BATCHES), "demanded"]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [head, ["---", *["---:"] * 3, "---"], *lines])


def banner(results, current):
    stale = [name for name, result in results.items() if result.get("kernel_hash") != current]
    if not stale:
        return ""
    return (f"> **STALE**: {', '.join(stale)} {'was' if len(stale) == 1 else 'were'} measured on other kernels than the sources "
            f"beside this page (`scripts/kernel_hash.py --against gpu/results/*.json`). Measure again: `scripts/gpu-results.sh`.\n\n")


def section(folder=RESULTS, current=None):
    results = {name: json.loads((folder / name).read_text()) for name in (DECODE, BIAS, COUNTERS) if (folder / name).exists()}
    if DECODE not in results:
        return "Nothing has been measured with these programs yet: `scripts/gpu-results.sh OUT` on a machine with an H200.\n"
    run = results[DECODE]
    versions = run.get("peer_versions")
    against = f" Peers: PyTorch {versions['torch']} (cuDNN {versions['cudnn'] // 10000}.{versions['cudnn'] // 100 % 100}), Triton {versions['triton']}." if versions else ""
    parts = [f"32k tokens unless said, 32/8 heads, head_dim 128, bf16, {run['gpu']}, driver {run['driver']}, CUDA "
             f"{run['cuda_runtime']}, SM clock {run['clocks_after']['sm_mhz']} MHz, kernels `{run.get('kernel_hash', 'unknown')}`.{against}",
             table(measured_rows(run["rows"]) + verdict_rows(run["rows"])), method_text(run["rows"]), trace_text(run["rows"])]
    if COUNTERS in results:
        parts.append(counters_text(results[COUNTERS]))
    if BIAS in results:
        parts.append(bias_text(results[BIAS]))
    parts.append("Reproduce: `scripts/gpu-results.sh OUT` (measures all of it, under 4 minutes), copy `OUT/*.json OUT/*.csv` to `gpu/results/`, then "
                 "`scripts/gpu_table.py` (this section) and `scripts/plot_gpu_results.py` (`gpu/results/decode_h200.svg`).")
    return banner(results, current or kernel_hash.kernel_hash()) + "\n\n".join(part for part in parts if part) + "\n"


def replace_section(readme, text):
    if readme.count(BEGIN) != 1 or readme.count(END) != 1 or readme.index(BEGIN) > readme.index(END):
        raise SystemExit(f"gpu_table: {README.relative_to(ROOT)} needs the lines\n{BEGIN}\n{END}\nonce each, in this order")
    return readme[:readme.index(BEGIN) + len(BEGIN)] + "\n" + text + readme[readme.index(END):]


def without_banner(readme):
    return "\n".join(line for line in readme.split("\n") if not line.startswith("> **STALE**"))


def check(old, new):
    """Other numbers than the results' are an error; a banner that is missing or too much is only told."""
    if without_banner(old).replace("\n\n", "\n") != without_banner(new).replace("\n\n", "\n"):
        print("gpu_table: the table of gpu/attention/README.md is not that of gpu/results; run scripts/gpu_table.py")
        return 1
    if old != new:
        print("WARNING gpu_table: the banner of gpu/attention/README.md is out of date; run scripts/gpu_table.py")
    return 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--print", action="store_true")
    parser.add_argument("--results", type=pathlib.Path, default=RESULTS)
    arguments = parser.parse_args()
    text = section(arguments.results)
    if arguments.print:
        print(text, end="")
        return 0
    old = README.read_text()
    new = replace_section(old, text)
    if arguments.check:
        return check(old, new)
    README.write_text(new)
    return 0


if __name__ == "__main__":
    sys.exit(main())
