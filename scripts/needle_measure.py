"""What train_needle.py measures of the finished model: task accuracy and held-out text against the sampling
budget, participation by layer, the three requirements, and the answers to the shipped demo prompt.
"""
import csv
import json
import math
import os
import sys

import torch

import needle_tasks as tasks
from needle_model import LAYERS, Model, read_model

BUDGETS = (1, 4, 16, 64, 128, 256)
VOTES_AT = {512: 12, 1024: 24, 4096: 96, 16384: 256, 32768: 512}  # votes of an evaluation text


def measure_tasks(model, texts, lengths, count, keys=8):
    """Exact answers by length and budget: one of eight keys (two asked a text) and the winner of the votes,
    clear or close; and the mean participation ratio at the aggregate question by length and layer."""
    rows, spread = [], {}
    for length in lengths:
        hits, batch = {}, max(1, min(count, 262144 // length))
        shares = [[] for _ in range(LAYERS)]
        for margin in tasks.SHARES:
            for _ in range(count // batch):
                prompt, names, numbers, winner = texts.task(batch, length, keys, VOTES_AT[length], margin)
                cache = model.prefill(prompt)
                kind = "aggregate" if margin == "clear" else "aggregate_" + margin
                asked = [(kind, texts.winner_open.expand(batch, -1), texts.colours[winner[:, 0]])]
                if margin == "clear":
                    asked += [("needle", texts.question(names[:, key]), numbers[:, key]) for key in range(2)]
                for kind, text, answer in asked:
                    fed = torch.cat([text, answer[:, :-1]], 1).long()
                    for budget in (0,) + BUDGETS:
                        watch = shares if (kind, budget) == ("aggregate", 0) else None
                        logits = model.decode(fed, cache, [budget] * LAYERS, texts.source, watch)
                        right = (logits[:, text.size(1) - 1:].argmax(-1) == answer.long()).all(-1)
                        hits.setdefault((kind, budget), []).append(right.float().mean().item())
        spread[length] = [round(torch.cat(layer).mean().item(), 1) for layer in shares]
        for (kind, budget), values in sorted(hits.items()):
            rows.append({"task": kind, "length": length, "S": budget or "dense", "answers": batch * len(values),
                         "accuracy": round(sum(values) / len(values), 4)})
    return rows, spread


def measure_text(model, texts, lengths, count, decoded=128):
    """Held-out text: bits per byte, total variation from dense and top-1 agreement over the last bytes."""
    rows, whole = [], texts.plain(count, max(lengths) + 1)
    for length in lengths:
        sums, batch = {}, max(1, min(count, 131072 // length))
        for at in range(0, count - batch + 1, batch):
            x = whole[at:at + batch, -length - 1:].long()  # every length predicts the same bytes
            cache = model.prefill(x[:, :length - decoded])
            dense = None
            for budget in (0,) + BUDGETS:
                logs = model.decode(x[:, length - decoded:length], cache, [budget] * LAYERS, texts.source)
                logs = logs.log_softmax(-1)
                dense = logs if dense is None else dense
                bits = -logs.gather(-1, x[:, length - decoded + 1:].unsqueeze(-1)).mean() / math.log(2)
                moved = 0.5 * (logs.exp() - dense.exp()).abs().sum(-1).mean()
                agree = (logs.argmax(-1) == dense.argmax(-1)).float().mean()
                sums.setdefault(budget, []).append((bits.item(), moved.item(), agree.item()))
        for budget, values in sums.items():
            bits, moved, agree = (sum(v) / len(values) for v in zip(*values))
            rows.append({"length": length, "S": budget or "dense", "bytes": count // batch * batch * decoded,
                         "bits_per_byte": round(bits, 4), "total_variation": round(moved, 4),
                         "top1_agreement": round(agree, 4)})
    return rows


def measure_layers(model, texts, length, count, decoded=256):
    """By layer over text positions: participation ratio, and what S = 1 in that layer alone costs."""
    shares, extra = [[] for _ in range(LAYERS)], [[] for _ in range(LAYERS)]
    batch = max(1, min(count, 65536 // length))
    for _ in range(count // batch):
        x = texts.plain(batch, length + 1).long()
        cache = model.prefill(x[:, :length - decoded])

        def bits(budgets, participation=None):
            logs = model.decode(x[:, length - decoded:length], cache, budgets, texts.source, participation)
            logs = logs.log_softmax(-1)
            return -logs.gather(-1, x[:, length - decoded + 1:].unsqueeze(-1)).mean().item() / math.log(2)

        dense = bits([0] * LAYERS, shares)
        for layer in range(LAYERS):
            extra[layer].append(bits([int(i == layer) for i in range(LAYERS)]) - dense)
    rows = []
    for layer in range(LAYERS):
        ratio, more = torch.cat(shares[layer]), sum(extra[layer]) / len(extra[layer])
        rows.append({"layer": layer, "length": length, "participation_mean": round(ratio.mean().item(), 2),
                     "participation_median": round(ratio.median().item(), 2),
                     "bits_per_byte_added_by_S1": round(more, 4), "live": more >= 0.02})
    return rows


def requirements(measured):
    """What the issue asks of the model: (a) aggregation needs budget, (b) needles, (c) a diffuse live layer."""
    table = {(r["task"], r["length"], r["S"]): r["accuracy"] for r in measured["tasks"]}
    lengths = sorted({r["length"] for r in measured["tasks"]})
    drop = {n: round(table["aggregate", n, 256] - table["aggregate", n, 4], 4) for n in lengths}
    least = {s: min(table["needle", n, s] for n in lengths) for s in ("dense", 128)}
    live = [r["participation_mean"] for r in measured["layers"] if r["live"]]
    return {"a": {"what": "aggregation accuracy at S=256 less that at S=4, smallest over the lengths, at least 0.2",
                  "value": min(drop.values()), "by_length": drop, "pass": min(drop.values()) >= 0.2},
            "b": {"what": "one of eight keys, smallest accuracy over the lengths, dense and systematic S=128, "
                          "at least 0.95",
                  "value": min(least.values()), "dense": least["dense"], "systematic_128": least[128],
                  "pass": min(least.values()) >= 0.95},
            "c": {"what": "largest mean participation ratio of a live layer over text positions, more than 50",
                  "value": max(live, default=0.0), "pass": max(live, default=0.0) > 50}}


def print_tables(measured):
    head = "".join(f"{s:>8}" for s in ("dense",) + BUDGETS)
    for kind in sorted({r["task"] for r in measured["tasks"]}):
        print(f"\n{kind}: exact answers by length (rows) and budget\n{'':>8}{head}")
        for length in sorted({r["length"] for r in measured["tasks"]}):
            row = {r["S"]: r["accuracy"] for r in measured["tasks"] if (r["task"], r["length"]) == (kind, length)}
            print(f"{length:>8}" + "".join(f"{row[s]:>8.3f}" for s in ("dense",) + BUDGETS))
    print("\nparticipation at the aggregate question, by length and layer:", measured["participation_at_aggregate"])
    print("\nheld-out text: bits per byte / total variation / top-1 agreement")
    for r in measured["text"]:
        print(f"{r['length']:>8} S {r['S']:>5} {r['bits_per_byte']:8.4f} {r['total_variation']:8.4f}"
              f" {r['top1_agreement']:8.4f}")
    for r in measured["layers"]:
        print("layer", {k: v for k, v in r.items() if k != "layer"}, r["layer"])
    for name, r in measured["requirements"].items():
        print(f"({name}) {'pass' if r['pass'] else 'FAIL'} {r['value']}: {r['what']}")
    sys.stdout.flush()


def write_csv(measured, path):
    with open(path, "w", newline="", encoding="ascii") as out:
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(("group", "length", "S", "quantity", "value", "samples"))
        for r in measured["tasks"]:
            writer.writerow((r["task"], r["length"], r["S"], "accuracy", r["accuracy"], r["answers"]))
        for r in measured["text"]:
            for quantity in ("bits_per_byte", "total_variation", "top1_agreement"):
                writer.writerow(("text", r["length"], r["S"], quantity, r[quantity], r["bytes"]))
        for r in measured["layers"]:
            for quantity in ("participation_mean", "participation_median", "bits_per_byte_added_by_S1"):
                writer.writerow((f"layer{r['layer']}", r["length"], "", quantity, r[quantity], ""))


def check_demo(directory, seeds, budget=128):
    """Answers the demo's questions one after the other by greedy decoding, dense and sampled; 0 if all are right."""
    model = Model(read_model(directory, "cpu"), "cpu")
    as_tokens = lambda data: torch.tensor([list(data)])
    with open(os.path.join(directory, "demo", "prompt.txt"), "rb") as file:
        start = model.prefill(as_tokens(file.read()))
    with open(os.path.join(directory, "demo", "questions.jsonl"), encoding="ascii") as file:
        questions = [json.loads(line) for line in file]
    wrong = 0
    for seed in range(seeds + 1):  # 0: dense
        source, cache, answers = torch.Generator().manual_seed(seed), list(start), []
        budgets = [budget if seed else 0] * LAYERS
        for question in questions:
            fed, answer = question["text"].encode(), b""
            while len(answer) < question["generate"]:
                fed = bytes([model.decode(as_tokens(fed), cache, budgets, source, keep=True)[0, -1].argmax().item()])
                answer += fed
            model.decode(as_tokens(fed), cache, budgets, source, keep=True)
            answers.append(answer.decode("latin-1"))
        bad = [(q["expect"], a) for q, a in zip(questions, answers) if q["expect"] != a]
        wrong += len(bad)
        print(f"systematic S={budget}, seed {seed}" if seed else "dense", answers,
              f"wrong: {bad}" if bad else "all right")
    return int(wrong > 0)
