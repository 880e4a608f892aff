"""Tables and figures of what scripts/accuracy.py measured. No GPU; figures need matplotlib.

Intervals are 95 %: Wilson for shares of right answers, normal over texts for means (texts are the independent
units, not bytes), and paired with dense for the bits that a method adds.
"""
import csv
import json
import math
import pathlib
import statistics
import subprocess
import sys

import kernel_hash

Z = 1.959963984540054
TASKS = (("needle", "one of eight keys"), ("needle 2", "a second key, same conversation"),
         ("votes after", "votes after both"), ("conversation", "all three"), ("votes clear", "votes, clear"),
         ("votes close", "votes, close"))
TEXT = ("bits_per_byte", "bits_added", "total_variation", "top1_agreement")


def wilson(right, n):
    """The 95 % score interval of a share (Wilson 1927)."""
    p, middle = right / n, right / n + Z * Z / (2 * n)
    half = Z * math.sqrt(p * (1 - p) / n + Z * Z / (4 * n * n))
    low, high = (middle - half) / (1 + Z * Z / n), (middle + half) / (1 + Z * Z / n)
    return max(0.0, low), min(1.0, high)


def mean_interval(values):
    mean = statistics.fmean(values)
    half = Z * statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else 0.0
    return mean, mean - half, mean + half


def gpu_name():
    try:
        return subprocess.run(["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader", "-i", "0"],
                              capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def kernels_of(program):
    """The hash of the kernels in the programs beside `program`; of the sources where nothing says it."""
    bench = pathlib.Path(program).parent / "stoat-bench"
    try:
        words = subprocess.run([bench, "--version"], capture_output=True, text=True, check=True).stdout.split()
        return words[words.index("kernels") + 1]
    except (OSError, ValueError, IndexError, subprocess.CalledProcessError):
        return kernel_hash.kernel_hash()


def describe(raw, plan, program):
    """Puts what the program cannot know into its result: the text, the settings, the command, the kernels."""
    result = json.loads(raw.read_text())
    result["source"], result["settings"], result["command"] = plan["source"], plan["settings"], plan["command"]
    result["kernel_hash"] = kernels_of(program)
    result["gpu"] = gpu_name() if result["backend"] == "cuda" else ""
    raw.write_text(json.dumps(result) + "\n")


def marks(group, cell):
    """{task: "0110..."} of one cell."""
    found = {}
    if group["name"].startswith("tasks"):
        asks = cell["asks"]
        found["votes " + group["name"].split()[-1]] = asks[-1][0]["right"]
        if len(asks) > 1:
            turns = [turn["right"] for turn in asks[0]]
            found["needle"], found["needle 2"], found["votes after"] = turns
            found["conversation"] = "".join(str(int(all(c == "1" for c in one))) for one in zip(*turns))
    return found


def text_rows(group, cell, dense):
    per_byte = [bits / size for bits, size in zip(cell["bits"], group["bytes"])]
    added = [(bits - other) / size for bits, other, size in zip(cell["bits"], dense["bits"], group["bytes"])]
    values = {"bits_per_byte": per_byte, "bits_added": added, "total_variation": cell["total_variation"],
              "top1_agreement": cell["top1_agreement"]}
    return [(name, *mean_interval(values[name]), len(per_byte)) for name in TEXT]


def rows_of(result):
    """Tidy rows: one a length, setting and measure."""
    by_name = {setting["name"]: setting for setting in result["settings"]}
    rows = []
    for group in result.get("groups", []):
        dense = group["cells"][0]
        for cell in group["cells"]:
            setting = by_name[cell["setting"]]
            budgets = setting.get("budgets", [])
            row = {"length": group["length"], "setting": cell["setting"], "method": cell["setting"].split()[0],
                   "budget": max(budgets) if budgets else "", "ternary_draws": setting.get("ternary_draws", "")}
            if "refused" in cell:
                continue
            for task, right in marks(group, cell).items():
                share = right.count("1") / len(right)
                low, high = wilson(right.count("1"), len(right))
                rows.append({**row, "measure": task, "value": share, "low": low, "high": high, "n": len(right)})
            if "bits" in cell:
                for name, mean, low, high, n in text_rows(group, cell, dense):
                    rows.append({**row, "measure": name, "value": mean, "low": low, "high": high, "n": n})
    return rows


def merged(raws):
    """One result of several raw files: their rows, and what stands above them."""
    heads, rows, variance = [], [], None
    for path in raws:
        result = json.loads(path.read_text())
        if "kernel_hash" not in result or result.get("interrupted"):
            raise ValueError(f"{path}: {'an interrupted run' if result.get('interrupted') else 'no result'}; expected what "
                             "`accuracy.py run` or `decode` has finished")
        heads.append({key: result[key] for key in ("tool_version", "build_id", "backend", "gpu", "kernel_hash",
                                                   "source", "command", "seconds")})
        heads[-1]["settings"] = len(result["settings"])
        heads[-1]["prefill_seconds"] = round(sum(g["prefill_seconds"] for g in result.get("groups", [])), 1)
        rows += rows_of(result)
        variance = result.get("variance", variance)
    seen, unique = set(), []
    for row in rows:  # dense is in every file: the first counts
        key = (row["length"], row["setting"], row["measure"])
        if key not in seen:
            seen.add(key)
            unique.append(row)
    return {"format": "stoat-accuracy-summary", "version": 1, "runs": heads, "rows": unique, "variance": variance}


def rounded(row):
    return {key: round(value, 6) if isinstance(value, float) else value for key, value in row.items()}


COLUMNS = ("length", "setting", "method", "budget", "ternary_draws", "measure", "value", "low", "high", "n")


def write_results(result, folder, name):
    head = json.dumps({key: value for key, value in result.items() if key not in ("rows", "variance")}, indent=1)
    lines = ",\n  ".join(json.dumps([rounded(row)[c] for c in COLUMNS]) for row in result["rows"])
    text = head[:-2] + f',\n "columns": {json.dumps(COLUMNS)},\n "rows": [\n  {lines}\n ]'
    if result["variance"]:
        text += ',\n "variance": ' + json.dumps(result["variance"]).replace('{"layer"', '\n  {"layer"')
    (folder / f"{name}.json").write_text(text + "\n}\n")
    with open(folder / f"{name}.csv", "w", newline="", encoding="ascii") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rounded(row) for row in result["rows"])


def read_results(path):
    result = json.loads(path.read_text())
    result["rows"] = [dict(zip(result["columns"], row)) for row in result["rows"]]
    return result


SHOWN = (1, 4, 16, 64, 128, 256, 512, 2048)
METHODS = ("iid", "strat", "sys", "prop", "flash")
MARKDOWN = (("votes close", "Votes, close, right, per cent", "{:.1f}", 100),
            ("conversation", "Two keys and then the votes, all three right, per cent", "{:.1f}", 100),
            ("total_variation", "Held-out text, total variation from dense", "{:.4f}", 1))
TERNARY = (("votes clear", "votes, clear, right, %", "{:.1f}", 100), ("votes close", "votes, close, right, %", "{:.1f}", 100),
           ("conversation", "two keys and the votes, all right, %", "{:.1f}", 100),
           ("total_variation", "text, total variation", "{:.4f}", 1), ("bits_added", "text, bits a byte added", "{:+.4f}", 1))


def lookup(rows, measure, length, factor):
    return {row["setting"]: factor * row["value"] for row in rows
            if row["measure"] == measure and row["length"] == length}


def grid(corner, columns, lines):
    return ["| " + " | ".join([corner, *columns]) + " |", "|---|" + "---:|" * len(columns),
            *["| " + " | ".join(line) + " |" for line in lines], ""]


def filled(lines):
    """Those that hold a number."""
    return [line for line in lines if set(line[1:]) != {"-"}]


def cells(found, names, form):
    return [form.format(found[name]) if name in found else "-" for name in names]


def ternary_draws(rows):
    return sorted({row["ternary_draws"] for row in rows if row["method"] == "ternary"})


def markdown(result):
    """What corresponds to the paper's Tables 1 and 2 and Figure 8, at the longest context."""
    rows = result["rows"]
    longest = max(row["length"] for row in rows)
    text = [f"{run['settings']} settings on {run['gpu'].split(',')[0]} in {run['seconds']:.0f} s, of which prefill "
            f"{run['prefill_seconds']:.0f} s; text: {run['source']}." for run in result["runs"] if run["gpu"]] + [""]
    for measure, words, form, factor in MARKDOWN:
        found = lookup(rows, measure, longest, factor)
        lines = [[f"`{method}`", *cells(found, [f"{method} S={s}" for s in SHOWN], form)] for method in METHODS]
        text += [f"{words}, {longest} tokens, dense {form.format(found['dense'])}:", ""]
        text += grid("", [f"S={s}" for s in SHOWN], filled(lines))
    draws = ternary_draws(rows)
    if draws:
        lines = []
        for measure, words, form, factor in TERNARY:
            lines.append([words, *cells(lookup(rows, measure, longest, factor),
                                        [f"ternary B={b} S=128" for b in draws], form)])
        if filled(lines):
            text += [f"Ternary scores (coupled, normaliser max), `prop` S=128, {longest} tokens:", ""]
            text += grid("", [f"B={b}" for b in draws], filled(lines))
    layers = sorted({int(row["setting"].split()[2]) for row in rows if row["setting"].startswith("one-hot")})
    if layers:
        lines = []
        for measure, words, form, factor in TERNARY:
            names = [f"one-hot layer {layer} of sys S=256" for layer in layers]
            lines.append([words, *cells(lookup(rows, measure, longest, factor), ["sys S=256", *names], form)])
        if filled(lines):
            text += [f"One-hot (S=1) in one layer alone, `sys` S=256 elsewhere, {longest} tokens:", ""]
            text += grid("", ["no layer", *[f"layer {layer}" for layer in layers]], filled(lines))
    return "\n".join(text).rstrip()


BEGIN, END = "<!-- accuracy: begin (scripts/accuracy.py readme) -->", "<!-- accuracy: end -->"


def update_readme(results, readme, check):
    """Rewrites the tables between the markers; with `check` only says (1) that they differ."""
    text = readme.read_text()
    if BEGIN not in text or END not in text:
        raise ValueError(f"{readme}: no markers {BEGIN} and {END}")
    head, rest = text.split(BEGIN)
    new = head + BEGIN + "\n" + markdown(read_results(results)) + "\n" + END + rest.split(END)[1]
    if not check:
        readme.write_text(new)
    elif new != text:
        print(f"accuracy: {readme.name} differs from {results.name}; run scripts/accuracy.py readme", file=sys.stderr)
        return 1
    return 0


def write_all(raws, folder, name):
    folder.mkdir(parents=True, exist_ok=True)
    result = merged(raws)
    write_results(result, folder, name)
    if result["rows"]:
        print(markdown(result))
    try:
        import accuracy_figures
    except ImportError as error:
        print(f"accuracy: no figures: {error}", file=sys.stderr)
        return
    accuracy_figures.draw(result, folder, name)
