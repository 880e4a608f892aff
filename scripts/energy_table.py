#!/usr/bin/env python3
"""Sets the measured energy of a GPU beside what the simulator says of traces of the same shape, method and context.

  energy_table.py                     rewrites the table of gpu/README.md from the committed results
  energy_table.py --check             exit 1 when the README's numbers are not the results'
  energy_table.py --simulate STOAT    first runs `stoat sim` again and rewrites the simulator's part
Nothing is fitted: the columns have different boundaries, and the text says which. No GPU needed.
"""
import argparse
import csv
import json
import pathlib
import subprocess
import sys
import tempfile
import textwrap

ROOT = pathlib.Path(__file__).resolve().parent.parent
MEASURED = ROOT / "gpu/llm/results/energy_h200.json"
SIMULATED = ROOT / "gpu/llm/results/energy_sim.json"
README = ROOT / "gpu/README.md"
BEGIN, END = "<!-- energy: begin (scripts/energy_table.py) -->", "<!-- energy: end -->"
ARCH = "h200_like"
RUNS = {"dense": ("llama_dense_32k.h5", "mac"), "prop:128": ("llama_prop128_32k.h5", "gather_add")}
KEPT = ("arch", "dram", "price_list", "dram_energy_boundary", "model", "method", "layers", "context_max", "time_ps",
        "energy_aJ", "dram_energy_aJ", "moved_bytes", "dense_kv_bytes", "weight_bytes_per_token")
# Antepara et al., SC 2025, doi 10.1145/3712285.3759815: HBM system with controller and on-chip part, measured.
PUBLISHED = {"A100": 13.11, "GH200": 11.68}


def simulate(program, methods=tuple(RUNS)):
    rows = {}
    for method in methods:
        trace, datapath = RUNS[method]
        with tempfile.TemporaryDirectory() as folder:
            out = pathlib.Path(folder) / "out"
            subprocess.run([program, "sim", ARCH, str(ROOT / "traces/shipped" / trace), "--datapath", datapath, "-o",
                            str(out), "-q"], check=True)
            with open(out / "summary.csv", encoding="ascii", newline="") as file:
                found = next(csv.DictReader(file))
        rows[method] = {key: int(found[key]) if found[key].isdigit() else found[key] for key in KEPT}
        rows[method]["command"] = f"stoat sim {ARCH} traces/shipped/{trace} --datapath {datapath}"
    return rows


def reading(result, work, method, batch):
    return next(row for row in result["rows"]
                if (row["work"], row["method"], row["batch"]) == (work, method, batch))


def idle_watts(result):
    """Before and after the work: the board is warmer then, and its clocks are still up."""
    rows = [row for row in result["rows"] if row["work"] == "idle"]
    return [row["joules"] / row["seconds"] for row in rows]


class Cell:
    """One reading, a token: joules, joules above idle, and per bit that the method must read from DRAM."""

    def __init__(self, row, layers, idle, bits):
        tokens = row["steps"] * row["batch"] / layers
        self.watts = row["joules"] / row["seconds"]
        self.mj = 1000 * row["joules"] / tokens
        self.above = 1000 * (row["joules"] - idle * row["seconds"]) / tokens
        self.bits = bits
        self.pj_a_bit = self.above * 1e9 / bits


def cells(result, simulated, batch, work):
    layers = simulated["dense"]["layers"] if work == "attention" else 1
    idle = idle_watts(result)[-1]
    found = {}
    for method in RUNS:
        row = reading(result, work, method, batch)
        bits = 8 * (simulated[method]["moved_bytes"] + row["weight_bytes"] / batch)
        found[method] = Cell(row, layers, idle, bits)
    return found


def saved_a_bit(found):
    """Energy that the method saves, over the bits that it does not read (pJ/bit); nothing subtracted."""
    dense, sampled = found["dense"], found["prop:128"]
    return 1e9 * (dense.mj - sampled.mj) / (dense.bits - sampled.bits)


def table():
    result, simulated = json.loads(MEASURED.read_text()), json.loads(SIMULATED.read_text())
    before, after = idle_watts(result)
    dram = {method: simulated[method]["dram_energy_aJ"] / 1e15 for method in RUNS}
    whole = {method: simulated[method]["energy_aJ"] / 1e15 for method in RUNS}
    bits = {method: 8 * simulated[method]["moved_bytes"] for method in RUNS}
    per_bit = {method: dram[method] * 1e9 / bits[method] for method in RUNS}
    lines = [f"{result['gpu']}, Llama-3.1-8B shapes, {simulated['dense']['context_max']} tokens, at least "
             f"{min(row['seconds'] for row in result['rows']):.0f} s a reading; mJ a token (dense / `prop` S=128):", "",
             "| | batch 1 | batch 4 | batch 16 |", "|---|---:|---:|---:|"]
    batches = sorted({row["batch"] for row in result["rows"] if row["batch"]})

    def line(words, cell):
        lines.append(f"| {words} | " + " | ".join(cell(batch) for batch in batches) + " |")

    def pair(work, value, form):
        def text(batch):
            found = cells(result, simulated, batch, work)
            return " / ".join(form.format(value(found[method])) for method in RUNS)
        return text

    line("whole step, board, W", pair("decode", lambda c: c.watts, "{:.0f}"))
    line("whole step, board", pair("decode", lambda c: c.mj, "{:.0f}"))
    line("whole step, above idle", pair("decode", lambda c: c.above, "{:.0f}"))
    line("whole step, above idle, pJ a bit that must be read", pair("decode", lambda c: c.pj_a_bit, "{:.1f}"))
    line("saved, pJ a bit not read (board)",
         lambda batch: f"{saved_a_bit(cells(result, simulated, batch, 'decode')):.1f}")
    line("attention alone, W", pair("attention", lambda c: c.watts, "{:.0f}"))
    line(f"attention alone, {simulated['dense']['layers']} layers, board", pair("attention", lambda c: c.mj, "{:.0f}"))
    line("attention alone, above idle, pJ a bit that must be read",
         pair("attention", lambda c: c.pj_a_bit, "{:.1f}"))
    both = [f"{dram['dense']:.0f} / {dram['prop:128']:.0f}"] * len(batches)
    lines.append("| simulator, attention, DRAM alone | " + " | ".join(both) + " |")
    lines.append("| simulator, attention, all of it | "
                 + " | ".join([f"{whole['dense']:.0f} / {whole['prop:128']:.0f}"] * len(batches)) + " |")
    said = (f"Boundaries. Board: NVML's counter, so GPU, HBM, converters and idle power ({before:.0f} W before the "
              f"work, {after:.0f} W after; \"above idle\" takes off the second). Simulator (`{ARCH}`): "
              f"{simulated['dense']['dram_energy_boundary']}; {per_bit['dense']:.2f} / {per_bit['prop:128']:.2f} pJ a bit, "
              f"the same for every batch. Published, HBM with controller and on-chip part: A100 {PUBLISHED['A100']}, GH200 "
              f"{PUBLISHED['GH200']} pJ a bit (Antepara et al., SC 2025). Bits that must be read are those of the recorded "
              "traces (and the weights). Side by side; nothing is fitted to anything.")
    return "\n".join([*lines, "", *textwrap.wrap(said, 125)])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--print", action="store_true")
    parser.add_argument("--simulate", metavar="STOAT")
    options = parser.parse_args()
    if options.simulate:
        try:
            simulated = simulate(options.simulate)
        except (OSError, subprocess.CalledProcessError) as error:
            print(f"energy_table: {error}; expected the program stoat, e.g. build/release/bin/stoat", file=sys.stderr)
            return 2
        SIMULATED.write_text(json.dumps(simulated, indent=1) + "\n")
    text = table()
    if options.print:
        print(text)
        return 0
    readme = README.read_text()
    if BEGIN not in readme or END not in readme:
        print(f"energy_table: {README} has no markers {BEGIN} and {END}", file=sys.stderr)
        return 2
    head, rest = readme.split(BEGIN)
    new = head + BEGIN + "\n" + text + "\n" + END + rest.split(END)[1]
    if options.check:
        if new != readme:
            print("energy_table: gpu/README.md differs from the results; run scripts/energy_table.py", file=sys.stderr)
        return int(new != readme)
    README.write_text(new)
    return 0


if __name__ == "__main__":
    sys.exit(main())
