#!/usr/bin/env python3
"""Writes the measured tables of gpu/llm/README.md, between their two markers, from the committed results.

  step_table.py           rewrites the README
  step_table.py --check   exit 1 when the README's numbers are not the results'
  step_table.py --print   the text alone
Reads of gpu/llm/results what is there: steps_h200.json (whole steps), recording_h200.json (recorded steps),
endurance_h200.json (host memory), hf_generate_h200.json (Hugging Face `generate`), and of gpu/results the attention of the
peers alone. No GPU needed.
"""
import argparse
import json
import pathlib
import statistics
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
README = ROOT / "gpu/llm/README.md"
RESULTS = ROOT / "gpu/llm/results"
PEER_CONTEXT = 32768
BEGIN, END = "<!-- measured: begin (scripts/step_table.py) -->", "<!-- measured: end -->"


def result(name):
    path = RESULTS / name
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def median(row):
    samples = sorted(row["samples_us"])
    return samples[(len(samples) - 1) // 2]


def tokens_text(count):
    return f"{count // 1024}k" if count % 1024 == 0 else str(count)


def method_text(row):
    return "dense" if row["method"] == "dense" else f"{row['method']} S={row['budget']}"


def table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "| " + " | ".join(["---"] + ["---:"] * (len(head) - 1)) + " |"]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def missing_text(row):
    words = row["left_out"].split()
    if "missing;" in words:
        return f"does not fit: {int(words[words.index('missing;') - 3]) / 1e9:.0f} GB are missing"
    return "left out"


def generate_times():
    """Microseconds a token of Hugging Face generate with its fastest attention, by batch and context."""
    found = result("hf_generate_h200.json")
    times = {}
    for row in found["rows"] if found else []:
        if "samples_us" in row:
            place = (row["batch"], row["context"])
            times[place] = min(times.get(place, float("inf")), statistics.median(row["samples_us"]))
    return times


def peers_section(rows):
    """What the ratios would be if the fastest peer's dense attention stood in the step where it is faster than ours."""
    path = ROOT / "gpu/results/decode_h200.json"
    attention = json.loads(path.read_text(encoding="utf-8"))["rows"] if path.exists() else []
    said = []
    for batch in sorted({row["batch"] for row in rows}):
        here = {method_text(row): row for row in rows if (row["batch"], row["context"]) == (batch, PEER_CONTEXT)}
        of_layer = [row for row in attention if (row["batch"], row["context"]) == (batch, PEER_CONTEXT)]
        own = [row for row in of_layer if row["kernel"] == "dense"]
        peers = [row for row in of_layer if row["by"] == "peer"]
        sampled = [name for name in here if name != "dense" and "left_out" not in here[name]]
        if "left_out" in here.get("dense", {"left_out": ""}) or not (own and peers and sampled):
            continue
        fastest = min(peers, key=lambda row: row["median_us"])
        layers = here["dense"]["kv_bytes"] / own[0]["must_read_bytes"]
        dense = median(here["dense"]) - layers * max(0.0, own[0]["median_us"] - fastest["median_us"])
        said.append(f"{sampled[0]} {dense / median(here[sampled[0]]):.2f}x at batch {batch} ({fastest['kernel']} "
                    f"{fastest['median_us']:.1f}, ours {own[0]['median_us']:.1f} µs a layer alone)")
    if not said:
        return []
    return ["", f"Against the faster of our dense attention and the fastest peer's, {tokens_text(PEER_CONTEXT)} (estimated: the step "
            f"above less what the peer alone is faster, in every layer; `gpu/results`): {', '.join(said)}."]


def steps_section():
    found = result("steps_h200.json")
    if not found:
        return []
    rows = [row for row in found["rows"] if "batch" in row]
    methods = list(dict.fromkeys(method_text(row) for row in rows))
    places = list(dict.fromkeys((row["batch"], row["context"]) for row in rows))
    theirs = generate_times()
    head = ["batch, tokens", "weights GB", "K + V GB", "bound"] + [f"`{name}`" for name in methods]
    head += [f"dense / `{name}`" for name in methods if name != "dense"] + (["HF `generate`"] if theirs else [])
    lines = []
    for place in places:
        here = {method_text(row): row for row in rows if (row["batch"], row["context"]) == place}
        any_row = dict(next(iter(here.values())), weight_bytes=max(row["weight_bytes"] for row in rows))
        bound = (any_row["weight_bytes"] + any_row["kv_bytes"]) / (1e6 * found["terabytes_per_second"])
        line = [f"{place[0]}, {tokens_text(place[1])}", f"{any_row['weight_bytes'] / 1e9:.1f}",
                f"{any_row['kv_bytes'] / 1e9:.1f}", f"{bound:.0f}"]
        for name in methods:
            row = here.get(name)
            if row is None or "left_out" in row:
                line.append("" if row is None else missing_text(row))
                continue
            share = f" ({100 * bound / median(row):.0f} %)" if name == "dense" else ""
            line.append(f"{median(row):.0f}{share}")
        for name in methods:
            if name == "dense":
                continue
            pair = [here.get("dense"), here.get(name)]
            measured = all(row is not None and "left_out" not in row for row in pair)
            line.append(f"{median(pair[0]) / median(pair[1]):.2f}x" if measured else "")
        if theirs:
            line.append(f"{theirs[place]:.0f}" if place in theirs else "")
        lines.append(line)
    text = [f"Random weights of {found['shape']}, {found['gpu']}, build `{found['build_id']}`; µs a step, medians; bound: "
            f"(weights + K + V) / {found['terabytes_per_second']} TB/s, and the share of it that dense reaches.", "",
            table(head, lines)]
    text += peers_section(rows)
    for row in found["rows"]:
        if "prefill" in row:
            text += ["", f"Prefill of {tokens_text(row['prefill'])} tokens: {row['seconds']:.2f} s."]
    return text


def recording_section():
    text = []
    found = result("recording_h200.json")
    if found:
        parts = []
        found["rows"] = [row for row in found["rows"] if "batch" in row]  # a prefill may stand beside them
        dense = {(row["batch"], row["context"]): median(row) for row in found["rows"] if row["method"] == "dense"}
        for row in found["rows"]:
            if "recorded_us" not in row:
                continue
            place = (row["batch"], row["context"])
            ratio = f"{dense[place] / median(row):.2f}x" if place in dense and row["method"] != "dense" else ""
            alike = row.get("unrecorded_us")  # older results have the short samples only
            slower = [f"{100 * (row['recorded_us'] / base - 1):+.1f} %" for base in (alike, median(row)) if base]
            parts.append([f"{row['batch']}, {tokens_text(row['context'])}", f"`{method_text(row)}`", f"{median(row):.0f}", ratio,
                          f"{alike:.0f}" if alike else "", f"{row['recorded_us']:.0f} ({', '.join(slower)})",
                          f"{row['recorded_mb']:.2f}", f"{row['resident_mb']:.0f}"])
        text += ["", f"Recording with `--stats fast` ({found['shape']}, build `{found['build_id']}`); dense needs a score pass "
                 "of its own for its statistics. Recorded steps are told against as many without recording, then against "
                 "the short samples:", "",
                 table(["batch, tokens", "method", "µs a step, short", "dense / it", "unrecorded", "recorded", "MB a step",
                        "host MB"], parts)]
    found = result("endurance_h200.json")
    if found:
        rows = found["rows"]
        first, middle, last = rows[0], rows[len(rows) // 2], rows[-1]
        text += ["", f"{last['step']} recorded steps of the shipped model's shape (`{found['method']}`): host memory "
                 f"{first['resident_mb']:.0f} MB after {first['step']}, {middle['resident_mb']:.0f} MB after "
                 f"{middle['step']}, {last['resident_mb']:.0f} MB at the end; {last['seconds']:.1f} s."]
    return text


def measured_text():
    theirs = result("hf_generate_h200.json")
    text = steps_section() + recording_section()
    if theirs:
        text += ["", f"Hugging Face `generate` (torch {theirs['torch']}, transformers {theirs['transformers']}): attention "
                 f"{theirs['attention']}, cache {theirs['cache']}; for scale only."]
    return "\n".join(text)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--print", action="store_true", dest="show")
    options = parser.parse_args()
    text = measured_text()
    if options.show:
        print(text)
        return 0
    readme = README.read_text(encoding="utf-8")
    begin, end = readme.find(BEGIN), readme.find(END)
    if begin < 0 or end < begin:
        print(f"step_table: {README} has no markers", file=sys.stderr)
        return 1
    wanted = readme[:begin] + BEGIN + "\n" + text + "\n" + readme[end:]
    if options.check:
        if wanted != readme:
            print("step_table: gpu/llm/README.md does not say what gpu/llm/results says; run scripts/step_table.py",
                  file=sys.stderr)
        return int(wanted != readme)
    README.write_text(wanted, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
