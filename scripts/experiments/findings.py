#!/usr/bin/env python3
"""Writes what the experiments found into README.md beside this file, from the cells of results/*.csv and nothing else.

  scripts/experiments/findings.py            rewrites README.md between its two marks
  scripts/experiments/findings.py --check    ends with 1 when README.md does not say what the CSV files hold
"""

import csv
import json
import pathlib
import statistics
import sys

HERE = pathlib.Path(__file__).resolve().parent
BEGIN, END = "<!-- findings: written by findings.py -->", "<!-- end of findings -->"


def table(name):
    with (HERE / "results" / f"{name}.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def one(rows, **want):
    found = [row for row in rows if all(row[key] == value for key, value in want.items())]
    if len(found) != 1:
        sys.exit(f"findings: {len(found)} rows for {want}, expected one")
    return found[0]


def ratio(row, base, column="energy_per_step_aJ"):
    return float(row[column]) / float(base[column])


def both(row, base):
    return f"{ratio(row, base):.3f}x energy, {ratio(row, base, 'ps_per_step'):.3f}x time"


def error(row):
    return f"error {float(row['total_error']):.3f}"


def context():
    rows = table("context")
    lines = []
    for tokens in ("4096", "32768", "131072"):
        dense = one(rows, context=tokens, selection="dense")
        said = [f"{name} {both(one(rows, context=tokens, selection=name), dense)}"
                for name in ("dense fp8", "S=128", "S=512", "S=2048", "top-k 512")]
        lines.append(f"{tokens} tokens, beside dense bf16: " + "; ".join(said) + ".")
    last = {name: one(rows, context="131072", selection=name) for name in ("dense", "S=512")}
    lines.append(f"K and V are {last['dense']['attention_share_percent']} % of a whole token's bytes at 131072 tokens and "
                 f"batch 1; S=512 saves {last['S=512']['token_saving_percent']} % of the token.")
    return lines


def budget():
    rows = table("budget")
    lines = []
    for sharp in ("64", "1024"):
        dense = one(rows, participation=sharp, selection="dense")
        for s in ("128", "512", "2048"):
            said = [f"{name} {error(one(rows, participation=sharp, selection=name, budget=s))}"
                    for name in ("iid", "strat", "prop", "top-k")]
            prop = one(rows, participation=sharp, selection="prop", budget=s)
            lines.append(f"As sharp as {sharp} rows, S={s}: " + ", ".join(said) + f"; prop costs {both(prop, dense)}.")
        fp8 = one(rows, participation=sharp, selection="dense fp8")
        lines.append(f"Dense fp8 beside them: {both(fp8, dense)}, {error(fp8)}.")
    return lines


def datapaths():
    rows = table("datapaths")
    lines = []
    for prices in ("jouppi_7nm_hbm3", "rtl_asap7"):
        priced = [row for row in rows if row["price_list"] == prices]
        dense = one(priced, datapath="mac", accumulator="fp32")
        said = []
        for datapath in ("gather_add", "ternary"):
            for repeats in ("adds", "shift_adds", "multiply"):
                row = one(priced, datapath=datapath, accumulator="fp32", repeats=repeats)
                said.append(f"{datapath} with {repeats} {ratio(row, dense):.3f}x")
        lines.append(f"Energy beside mac, fp32 accumulators, {prices}: " + ", ".join(said) + ".")
        arithmetic = [row for row in priced if row["datapath"] == "gather_add" and row["repeats"] == "shift_adds"]
        lines.append("Arithmetic of gather_add (shift_adds) in nJ: " + ", ".join(
            f"{row['accumulator']} {float(row['component_arithmetic_aJ']) / 1e9:.1f}" for row in arithmetic) + ".")
    return lines


def memory():
    rows = table("memory")
    lines = []
    for name in dict.fromkeys(row["memory"] for row in rows):
        mine = [row for row in rows if row["memory"] == name]
        said = []
        for datapath in ("mac", "gather_add"):
            some = sorted((row for row in mine if row["datapath"] == datapath), key=lambda row: float(row["ps_per_step"]))
            said.append(f"{datapath} {float(some[0]['ps_per_step']) / 1e6:.1f} to {float(some[-1]['ps_per_step']) / 1e6:.1f} us "
                        f"(best map '{some[0]['address_order']}', row hits {some[0]['row_hit_percent']} %)")
        lines.append(f"{name}: " + "; ".join(said) + ".")
    return lines


def placement():
    rows = table("placement")
    lines = []
    for place in ("beside", "logic die", "bank group", "bank"):
        dense = one(rows, place=place, context="32768", selection="dense")
        said = [f"{name} {both(one(rows, place=place, context='32768', selection=name), dense)}"
                for name in ("S=128", "S=512", "ternary S=512")]
        lines.append(f"{place}, 32768 tokens: dense {float(dense['energy_per_step_aJ']) / 1e15:.3f} mJ and "
                     f"{float(dense['ps_per_step']) / 1e6:.1f} us; " + "; ".join(said) + ".")
    return lines


def lanes():
    rows = table("lanes")
    lines = []
    for datapath in ("mac", "gather_add"):
        mine = [row for row in rows if row["datapath"] == datapath and row["engine.lanes.exp"] == "16"
                and row["engine.lanes.gather_add"] == ("1" if datapath == "mac" else "16")]
        lines.append(f"{datapath}, us a token by dense lanes: " + ", ".join(
            f"{row['engine.lanes.dense']}: {float(row['ps_per_step']) / 1e6:.1f}" for row in mine) + ".")
    mine = [row for row in rows if row["datapath"] == "gather_add" and row["engine.lanes.dense"] == "64"
            and row["engine.lanes.exp"] == "16"]
    lines.append("gather_add, us a token by gather-add lanes (64 dense lanes): " + ", ".join(
        f"{row['engine.lanes.gather_add']}: {float(row['ps_per_step']) / 1e6:.1f}" for row in mine) + ".")
    return lines


def ternary():
    rows = table("ternary")
    exact = one(rows, selection="exact")
    lines = []
    for layout in ("token_major", "feature_major"):
        for coupling in ("independent", "coupled", "group-mean"):
            said = []
            for draws in ("B=1", "B=4", "B=16"):
                row = one(rows, **{"selection": draws, "mapping.k_layout": layout, "ternary.coupling": coupling})
                said.append(f"{draws} {both(row, exact)}, {float(row['touched_features_per_group']):.1f} features a group")
            lines.append(f"K {layout}, {coupling}, beside exact scores: " + "; ".join(said) + ".")
    return lines


def assumptions():
    rows = table("assumptions")

    def sampled_over_dense(name):
        dense, sampled = (one(rows, selection=kind, assumption=name) for kind in ("dense", "S=512"))
        return ratio(sampled, dense), ratio(sampled, dense, "ps_per_step")

    base = sampled_over_dense("base")
    changes = []
    for name in dict.fromkeys(row["assumption"].rsplit(" ", 2)[0] for row in rows if row["assumption"] != "base"):
        sides = [[100 * (now / then - 1) for now, then in zip(sampled_over_dense(f"{name} {sign}20 %"), base)] for sign in "-+"]
        changes.append((max(abs(value) for side in sides for value in side), name, sides))
    changes.sort(key=lambda each: (-each[0], each[1]))
    said = [f"{name} {low[0]:+.1f} / {high[0]:+.1f} % energy, {low[1]:+.1f} / {high[1]:+.1f} % time"
            for most, name, (low, high) in changes if most >= 0.1]
    still = [name for most, name, _ in changes if most < 0.1]
    return [f"S=512 at 32768 tokens takes {base[0]:.3f}x energy and {base[1]:.3f}x time of dense; a fifth less / more of "
            "each changes these by: " + "; ".join(said) + ".",
            "Less than 0.1 %: " + ", ".join(still) + "."]


def h200():
    measured = {}
    for row in json.loads((HERE / "../../gpu/results/decode_h200.json").read_text())["rows"]:
        if row.get("by", "stoat") == "stoat":
            measured[row["kernel"], row["batch"], row["context"]] = row["median_us"] * 1e-6
    pairs = {}
    for row in table("h200"):
        kernel = "dense" if row["datapath"] == "mac" else f"{row['method']} S={row['budget']}"
        place = (int(row["batch"]), int(row["context"]))
        if (kernel, *place) in measured:
            pairs[kernel, *place] = (float(row["ps_per_step"]) * 1e-12 / int(row["layers"]), measured[kernel, *place])

    def spread(values):
        return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"

    lines = []
    for name in ("dense", "prop S=128", "prop S=1024", "prop S=2048", "flash S=2048", "topk S=128"):
        of_time = [ours / gpu for (kernel, *_), (ours, gpu) in pairs.items() if kernel == name]
        at_32k = pairs[name, 4, 32768]
        text = f"{name}: simulated over measured time {spread(of_time)} over {len(of_time)} shapes"
        if name != "dense":
            simulated, gpu = (at_32k[k] / pairs["dense", 4, 32768][k] for k in (0, 1))
            text += f"; of dense at batch 4, 32768 tokens: simulated {simulated:.3f}, measured {gpu:.3f}"
        lines.append(text + ".")
    return lines


EXPERIMENTS = (context, budget, datapaths, memory, placement, lanes, ternary, assumptions, h200)


def findings():
    text = BEGIN + "\n"
    for experiment in EXPERIMENTS:
        text += f"\n### {experiment.__name__}\n\n" + "".join(f"- {line}\n" for line in experiment())
    return text + "\n" + END


def main():
    path = HERE / "README.md"
    before = path.read_text()
    begin, end = before.index(BEGIN), before.index(END) + len(END)
    after = before[:begin] + findings() + before[end:]
    if "--check" in sys.argv[1:]:
        if after != before:
            print("findings: README.md does not say what results/*.csv hold; run scripts/experiments/findings.py")
            return 1
        return 0
    path.write_text(after)
    return 0


if __name__ == "__main__":
    sys.exit(main())
