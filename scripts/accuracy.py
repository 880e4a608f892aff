#!/usr/bin/env python3
"""Accuracy against the sampling budget: the shipped tasks and held-out text, every method, on a GPU or the CPU.

  accuracy.py run -o OUT [--program stoat-capture] [--backend auto]    plan, decode, tables, figures
  accuracy.py plan -o OUT                                              the plan alone (plan.json, texts.bin)
  accuracy.py decode -o OUT                                            the rest of it, on another machine perhaps
  accuracy.py tables OUT/raw*.json -o DIR --name accuracy_h200         results, table and figures of raw files
  accuracy.py readme [--check]                                         the tables of gpu/llm/results/README.md

Every prompt is prefilled once, exactly; then `stoat-capture accuracy` answers it with every method and budget.
Tasks: one of eight keys, a second one, then the votes, in one conversation; the votes alone, clear and close.
Text: the files that models/llm/needle/corpus_manifest.csv.gz marks held-out, where --corpus has them (their hashes
are checked), or --text FILES. --variance adds the variance of attention outputs (on the CPU, minutes).
"""
import argparse
import csv
import gzip
import hashlib
import json
import pathlib
import random
import shutil
import subprocess
import sys
import sysconfig

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import accuracy_tables  # noqa: E402
import needle_tasks as tasks  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parent.parent
MANIFEST = ROOT / "models/llm/needle/corpus_manifest.csv.gz"
RESULTS = ROOT / "gpu/llm/results"
LENGTHS = (1024, 2048, 4096, 8192, 16384, 32768)
BUDGETS = tuple(1 << i for i in range(12))
VOTES_AT = {256: 6, 512: 12, 1024: 24, 2048: 48, 4096: 96, 8192: 160, 16384: 256, 32768: 512}
KEYS, ROOM = 8, 96  # ROOM: bytes of a conversation's questions and answers
TERNARY_DRAWS, TERNARY_BUDGET, TERNARY_FIXED = (1, 2, 4, 8, 16, 32, 64), 128, 8
ONE_HOT_BASES = (16, 256)  # the paper's, of its two models


def held_out_text(corpus):
    """The bytes of the manifest's held-out files that are in `corpus` unchanged, and how many there are."""
    with gzip.open(MANIFEST, "rt", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == "held-out"]
    found, parts = 0, []
    for row in rows:
        path = pathlib.Path(corpus) / row["path"]
        data = path.read_bytes() if path.is_file() else b""
        if hashlib.sha256(data).hexdigest()[:12] == row["sha256_first_12"]:
            parts.append(data + b"\n\n")
            found += 1
    return b"".join(parts), found, len(rows)


def settings(layers, budgets, ternary, seed):
    """Dense first. Every setting has a seed of its own: prop draws what sys draws, here at other offsets."""
    made = [{"name": "dense", "method": "dense"}]

    def add(name, method, budgets, **more):
        made.append({"name": name, "method": method, "budgets": budgets, **more})

    for method in ("iid", "strat", "sys", "prop", "flash"):
        for budget in budgets:
            add(f"{method} S={budget}", method, [budget])
    for base in ONE_HOT_BASES:
        for layer in range(layers):
            add(f"one-hot layer {layer} of sys S={base}", "sys", [1 if i == layer else base for i in range(layers)])
    if ternary:
        pairs = [(b, TERNARY_BUDGET) for b in TERNARY_DRAWS] + [(TERNARY_FIXED, s) for s in budgets]
        for draws, budget in dict.fromkeys(pairs):
            add(f"ternary B={draws} S={budget}", "prop", [budget], ternary_draws=draws, coupling="coupled",
                normaliser="max")
        add(f"ternary pow2 B={TERNARY_FIXED} S={TERNARY_BUDGET}", "prop", [TERNARY_BUDGET],
            ternary_draws=TERNARY_FIXED, coupling="coupled", normaliser="pow2")
    for i, setting in enumerate(made):
        setting["seed"] = seed + i
    return made


class Texts:
    """All prompts, one after the other in one file."""

    def __init__(self):
        self.data = bytearray()

    def add(self, text):
        self.data += text
        return [len(self.data) - len(text), len(text)]


def turn(questions):
    """One question of every prompt; all equally long."""
    return {"kind": questions[0]["kind"], "generate": questions[0]["generate"],
            "text": [q["text"] for q in questions], "expect": [q["expect"] for q in questions]}


def task_group(filler, texts, length, margin, count, seed):
    rng = random.Random(f"{seed} {length} {margin}")
    spans, asked = [], []
    window = min(len(filler), 2 * length + 4096)
    for _ in range(count):
        at = rng.randrange(len(filler) - window + 1)
        prompt, questions = tasks.make_task(filler[at:at + window], length - ROOM, rng.getrandbits(40), KEYS,
                                            VOTES_AT[length], 2, margin)
        spans.append(texts.add(prompt))
        asked.append(questions)
    votes = [turn([questions[-1] for questions in asked])]
    talk = [turn([questions[i] for questions in asked]) for i in range(3)]
    return {"name": f"tasks {margin}", "length": length, "prompts": spans,
            "asks": [talk, votes] if margin == "clear" else [votes]}


def text_groups(text, texts, lengths, count, decoded, seed):
    """The same last bytes at every length."""
    rng = random.Random(f"{seed} text")
    longest = max(lengths, default=0) + 1
    if len(text) < longest:
        raise ValueError(f"{len(text)} bytes of text, expected at least {longest}; name more files with --text")
    windows = []
    for _ in range(count):
        at = rng.randrange(len(text) - longest + 1)
        windows.append(text[at:at + longest])
    return [{"name": "text", "length": length, "decoded": decoded,
             "prompts": [texts.add(window[-length - 1:]) for window in windows]} for length in lengths]


def make_plan(options):
    if options.text:
        text = b"\n".join(pathlib.Path(name).read_bytes() for name in options.text)
        source = f"{len(options.text)} files of --text, {len(text)} bytes"
    else:
        text, found, of = held_out_text(options.corpus)
        source = f"{found} of {of} held-out files, {len(text)} bytes"
        if not text:
            raise ValueError(f"{options.corpus}: none of the {of} held-out files of {MANIFEST.name}; "
                             "name another folder with --corpus, or files with --text")
    layers = json.loads((ROOT / "models/llm/needle/config.json").read_text())["num_hidden_layers"]
    texts, groups = Texts(), []
    lengths = () if options.variance_only else options.lengths
    held_out = text_groups(text, texts, lengths, options.questions, options.decoded, options.seed)
    for length, of_text in zip(lengths, held_out):
        groups += [task_group(text, texts, length, margin, options.questions, options.seed)
                   for margin in ("clear", "close")]
        groups.append(of_text)
    plan = {"model": "needle", "texts": "texts.bin", "source": source,
            "settings": settings(layers, options.budgets, not options.no_ternary, options.seed)}
    if options.only:
        plan["settings"] = plan["settings"][:1] + [s for s in plan["settings"][1:]
                                                   if any(word in s["name"] for word in options.only)]
    plan["groups"] = groups
    if options.variance or options.variance_only:
        rng = random.Random(f"{options.seed} variance")
        length = options.variance_length
        starts = [rng.randrange(len(text) - length + 1) for _ in range(options.variance_prompts)]
        plan["variance"] = {"prompts": [texts.add(text[at:at + length]) for at in starts], "seed": options.seed,
                            "steps": options.variance_steps, "replicates": options.replicates,
                            "methods": ["iid", "strat", "sys"], "budgets": list(options.budgets)}
    return plan, bytes(texts.data)


def numbers(text):
    return tuple(int(word) for word in text.split(","))


def budget_list(text):
    found = numbers(text)
    if min(found) < 1 or max(found) > 65535:
        raise argparse.ArgumentTypeError(f"{text}: expected budgets from 1 to 65535")
    return found


def length_list(text):
    found = numbers(text)
    for length in found:
        if length not in VOTES_AT:
            raise argparse.ArgumentTypeError(f"{length}: expected some of {', '.join(map(str, VOTES_AT))}")
    return found


def count(text):
    if int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text}: expected at least 1")
    return int(text)


def ensure_program(name):
    """Before minutes of work: is there something to run?"""
    if shutil.which(name) is None:
        raise ValueError(f"{name}: no such program; expected stoat-capture; build it, or name it with --program")


def add_program_options(verb):
    verb.add_argument("--program", default=str(ROOT / "build/release/bin/stoat-capture"))
    verb.add_argument("--backend", default="auto")
    verb.add_argument("--raw-only", action="store_true", help="no tables and figures")
    verb.add_argument("--name", default="accuracy")


def parser():
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = made.add_subparsers(dest="verb", required=True)
    for name in ("run", "plan"):
        verb = verbs.add_parser(name)
        verb.add_argument("-o", "--output", type=pathlib.Path, required=True, metavar="DIR")
        verb.add_argument("--lengths", type=length_list, default=LENGTHS)
        verb.add_argument("--budgets", type=budget_list, default=BUDGETS)
        verb.add_argument("--questions", type=count, default=200, help="questions, and texts, a cell")
        verb.add_argument("--decoded", type=count, default=48, help="bytes predicted a text")
        verb.add_argument("--corpus", default=sysconfig.get_paths()["purelib"], help="folder with the held-out files")
        verb.add_argument("--text", nargs="+", metavar="FILE", help="other text, for fillers too")
        verb.add_argument("--seed", type=int, default=1)
        verb.add_argument("--only", nargs="+", help="dense, and settings whose names contain one of these")
        verb.add_argument("--no-ternary", action="store_true")
        verb.add_argument("--variance", action="store_true")
        verb.add_argument("--variance-only", action="store_true")
        verb.add_argument("--variance-length", type=count, default=8192)
        verb.add_argument("--variance-prompts", type=count, default=8)
        verb.add_argument("--variance-steps", type=count, default=25, help="queries a prompt")
        verb.add_argument("--replicates", type=count, default=16, help="seeds a query")
        if name == "run":
            add_program_options(verb)
    decode = verbs.add_parser("decode")
    decode.add_argument("-o", "--output", type=pathlib.Path, required=True, metavar="DIR", help="where the plan lies")
    add_program_options(decode)
    tables = verbs.add_parser("tables")
    tables.add_argument("raw", nargs="+", type=pathlib.Path)
    tables.add_argument("-o", "--output", type=pathlib.Path, required=True, metavar="DIR")
    tables.add_argument("--name", default="accuracy_h200")
    readme = verbs.add_parser("readme")
    readme.add_argument("--check", action="store_true", help="exit 1 when they are not those of the results")
    return made


def write_plan(options):
    plan, texts = make_plan(options)
    words = [word.rstrip("/").rsplit("/", 1)[-1] for word in sys.argv[2:]]  # folders of a machine say nothing
    plan["command"] = " ".join(["scripts/accuracy.py run", *words])
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "texts.bin").write_bytes(texts)
    (options.output / "plan.json").write_text(json.dumps(plan))
    print(f"{options.output}/plan.json: {len(plan['settings'])} settings, {len(plan['groups'])} groups")


def decode(options):
    raw = options.output / "raw.json"
    code = subprocess.run([options.program, "accuracy", "--plan", str(options.output / "plan.json"), "--json",
                           str(raw), "--backend", options.backend, "--force"]).returncode
    if code:
        return code
    plan = json.loads((options.output / "plan.json").read_text())
    accuracy_tables.describe(raw, plan, options.program)
    if not options.raw_only:
        accuracy_tables.write_all([raw], options.output, options.name)
    return 0


def main():
    options = parser().parse_args()
    try:
        if options.verb == "tables":
            accuracy_tables.write_all(options.raw, options.output, options.name)
        if options.verb == "readme":
            return accuracy_tables.update_readme(RESULTS / "accuracy_h200.json", RESULTS / "README.md", options.check)
        if options.verb in ("decode", "run"):
            ensure_program(options.program)
        if options.verb in ("plan", "run"):
            write_plan(options)
        if options.verb in ("decode", "run"):
            return decode(options)
        return 0
    except (OSError, ValueError) as error:
        print(f"accuracy: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
