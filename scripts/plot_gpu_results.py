#!/usr/bin/env python3
"""Draws gpu/results/decode_h200.svg from gpu/results/decode_h200.json. No GPU; needs matplotlib.

One panel a batch size: time over the time to read K, against the context. What cannot be beaten is 1.
"""

import argparse
import json
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import gpu_results  # noqa: E402
import kernel_hash  # noqa: E402

RESULTS = kernel_hash.ROOT / "gpu/results"
OURS = [("prop S=128", "#0b6e4f", "o"), ("prop S=1024", "#3fa34d", "s"), ("flash S=2048", "#8fc93a", "^"),
        ("dense", "#1d3557", "D")]
PEERS = [("SDPA cuDNN", "#e07a5f", "v"), ("Triton split-KV", "#d1495b", "P"), ("SDPA flash", "#b5838d", "X")]


def series(table, batch, names, floor):
    """[(context, time / floor time)], with the best of `names` at each context."""
    points = []
    for (b, context), median in sorted(table.items()):
        times = [median[name] for name in names if name in median]
        if b == batch and times and floor in median:
            points.append((context, min(times) / median[floor]))
    return points


def draw(result, target):
    import matplotlib
    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "stoat"  # equal results, equal bytes
    from matplotlib import pyplot
    table = gpu_results.medians(result["rows"])
    batches = sorted({batch for batch, _ in table})
    figure, panels = pyplot.subplots(1, len(batches), figsize=(4 * len(batches), 3.8), sharey=True, squeeze=False)
    names = gpu_results.rivals(result["rows"])
    for batch, panel in zip(batches, panels[0]):
        lines = [(label, [label], color, mark) for label, color, mark in OURS]
        lines += [(label, [name for name in names if name.startswith(label)], color, mark) for label, color, mark in PEERS]
        for label, members, color, mark in lines:
            points = series(table, batch, members, "read K")
            if points:
                panel.plot(*zip(*points), color=color, marker=mark, markersize=4, label=label,
                           linestyle="-" if label not in dict((p[0], 0) for p in PEERS) else "--")
        floor = series(table, batch, ["read K and V"], "read K")
        if floor:
            panel.plot(*zip(*floor), color="#777777", linewidth=1, linestyle=":", label="read K and V")
        panel.axhline(1, color="black", linewidth=1)
        panel.set_xscale("log", base=2)
        contexts = sorted({context for b, context in table if b == batch})
        panel.set_xticks(contexts, [f"{context // 1024}k" for context in contexts])
        panel.set_title(f"batch {batch}")
        panel.set_xlabel("tokens of context")
        panel.grid(alpha=0.3)
    panels[0][0].set_ylabel("time / time to read K")
    panels[0][0].set_ylim(bottom=0)
    handles, labels = panels[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncol=len(labels), fontsize=8, frameon=False)
    figure.suptitle(f"Decode attention, {result['gpu']}, 32/8 heads, head_dim 128, bf16; kernels "
                    f"{result.get('kernel_hash', 'unknown')}", fontsize=10)
    figure.tight_layout(rect=(0, 0.07, 1, 1))
    figure.savefig(target, metadata={"Date": None})


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=pathlib.Path, default=RESULTS / "decode_h200.json")
    parser.add_argument("--out", type=pathlib.Path, default=RESULTS / "decode_h200.svg")
    arguments = parser.parse_args()
    draw(json.loads(arguments.json.read_text()), arguments.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
