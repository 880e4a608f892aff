"""Figures of accuracy_tables.py: accuracy against the budget, its change with the context, the variance of attention
outputs with theory's line (the paper's Figure 7) and one-hot layer by layer (Figure 8)."""
import matplotlib

matplotlib.use("agg")
from matplotlib import pyplot  # noqa: E402

COLOURS = {"iid": "#b5838d", "strat": "#e07a5f", "sys": "#0b6e4f", "prop": "#3fa34d", "flash": "#1d3557",
           "ternary B=8": "#7b2cbf"}
MARKS = {"iid": "v", "strat": "s", "sys": "o", "prop": "x", "flash": "D", "ternary B=8": "P"}
PANELS = (("votes clear", "votes, clear: right", False), ("votes close", "votes, close: right", False),
          ("conversation", "two keys, then votes: all right", False),
          ("bits_added", "text: bits a byte added (where the interval is above 0)", True), ("total_variation", "text: total variation", True),
          ("top1_agreement", "text: top-1 agreement", False))


def series(rows, measure, length, prefix):
    """[(budget, value, low, high)] of settings named "PREFIX S=n"."""
    found = []
    for row in rows:
        if row["measure"] == measure and row["length"] == length and row["setting"] == f"{prefix} S={row['budget']}":
            found.append((row["budget"], row["value"], row["low"], row["high"]))
    return sorted(found)


def curve(panel, points, log, **style):
    if log:  # a logarithmic axis has no place for an interval that holds nought
        points = [point for point in points if point[2] > 0]
    if not points:
        return
    x, y, low, high = zip(*points)
    panel.plot(x, y, markersize=4, linewidth=1.3, **style)
    panel.fill_between(x, low, high, alpha=0.15, color=style["color"], linewidth=0)


def finish(panel, title, log):
    panel.set_xscale("log", base=2)
    if log:
        panel.set_yscale("log")
    panel.set_title(title, fontsize=10)
    panel.set_xlabel("budget S")
    panel.grid(alpha=0.3)


def save(figure, path):
    figure.savefig(path, dpi=110, metadata={"Software": None})
    pyplot.close(figure)


def methods_figure(result, path):
    rows = result["rows"]
    length = max(row["length"] for row in rows)
    figure, panels = pyplot.subplots(2, 3, figsize=(13, 7.4))
    for (measure, title, log), panel in zip(PANELS, panels.flat):
        for name, colour in COLOURS.items():
            curve(panel, series(rows, measure, length, name), log, color=colour, marker=MARKS[name], label=name)
        dense = [row["value"] for row in rows
                 if (row["measure"], row["length"], row["setting"]) == (measure, length, "dense")]
        if dense and not log:
            panel.axhline(dense[0], color="black", linewidth=1, linestyle=":", label="dense")
        finish(panel, title, log)
    handles, labels = panels[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncol=len(labels), frameon=False)
    count = max(row["n"] for row in rows)
    figure.suptitle(f"{length} tokens, {count} questions or texts a cell, 95 % intervals; "
                    f"{result['runs'][0]['gpu'].split(',')[0] or 'CPU'}", fontsize=11)
    figure.tight_layout(rect=(0, 0.05, 1, 1))
    save(figure, path)


def lengths_figure(result, path):
    rows = result["rows"]
    lengths = sorted({row["length"] for row in rows})
    figure, panels = pyplot.subplots(1, 4, figsize=(16, 3.9))
    shades = matplotlib.colormaps["viridis"]
    for column, (method, measure, title, log) in enumerate((("sys", "votes close", "sys: votes, close", False),
                                                            ("sys", "total_variation", "sys: total variation", True),
                                                            ("flash", "total_variation", "flash: total variation", True))):
        for i, length in enumerate(lengths):
            curve(panels[column], series(rows, measure, length, method), log, marker="o",
                  color=shades(i / max(1, len(lengths) - 1) * 0.9), label=f"{length // 1024}k")
        finish(panels[column], title, log)
    panels[0].legend(title="context", fontsize=8)
    draws_panel(panels[3], rows, lengths)
    figure.tight_layout()
    save(figure, path)


def draws_panel(panel, rows, lengths):
    """Ternary scores: total variation against B at a fixed S."""
    shades = matplotlib.colormaps["viridis"]
    for i, length in enumerate(lengths):
        points = sorted((row["ternary_draws"], row["value"], row["low"], row["high"]) for row in rows
                        if row["measure"] == "total_variation" and row["length"] == length
                        and row["method"] == "ternary" and row["budget"] == 128 and "pow2" not in row["setting"])
        curve(panel, points, True, marker="P", color=shades(i / max(1, len(lengths) - 1) * 0.9))
    finish(panel, "ternary, S=128: total variation", True)
    panel.set_xlabel("draws B")


def variance_figure(result, path):
    rows = result["variance"]["rows"]
    layers = sorted({row["layer"] for row in rows})
    figure, panels = pyplot.subplots(1, len(layers), figsize=(4 * len(layers), 3.9), sharey=True, squeeze=False)
    for layer, panel in zip(layers, panels[0]):
        for method in ("iid", "strat", "sys"):
            own = sorted((r for r in rows if (r["layer"], r["method"]) == (layer, method)), key=lambda r: r["budget"])
            x = [r["budget"] for r in own]
            panel.plot(x, [r["squared_error"] / r["squared_output"] for r in own], marker=MARKS[method], markersize=4,
                       color=COLOURS[method], linestyle="none" if "theory" in own[0] else "-", label=f"{method}, measured")
            if "theory" in own[0]:
                panel.plot(x, [r["theory"] / r["squared_output"] for r in own], color=COLOURS[method], linewidth=1,
                           label=f"{method}, theory")
        finish(panel, f"layer {layer}", True)
    panels[0][0].set_ylabel("variance / squared norm of the output")
    panels[0][0].legend(fontsize=8)
    figure.tight_layout()
    save(figure, path)


def one_hot_figure(result, path):
    rows = [row for row in result["rows"] if row["setting"].startswith("one-hot layer")]
    length = max(row["length"] for row in rows)
    measures = (("bits_added", "bits a byte added to dense"), ("total_variation", "total variation"),
                ("votes clear", "votes, clear: right"))
    figure, panels = pyplot.subplots(1, len(measures), figsize=(4.2 * len(measures), 3.6))
    bases = sorted({int(row["setting"].rsplit("S=", 1)[1]) for row in rows})
    for (measure, title), panel in zip(measures, panels):
        for i, base in enumerate(bases):
            own = sorted((int(row["setting"].split()[2]), row["value"], row["low"], row["high"]) for row in rows
                         if row["measure"] == measure and row["length"] == length
                         and row["setting"].endswith(f"sys S={base}"))
            x = [layer + (i - 0.5) * 0.38 for layer, *_ in own]
            y = [value for _, value, _, _ in own]
            error = [[value - low for _, value, low, _ in own], [high - value for _, value, _, high in own]]
            colour = ("#e07a5f", "#0b6e4f")[i % 2]
            panel.bar(x, y, 0.36, yerr=error, color=colour, label=f"S={base} elsewhere", capsize=2)
            whole = [row["value"] for row in result["rows"]
                     if (row["measure"], row["length"], row["setting"]) == (measure, length, f"sys S={base}")]
            if whole:
                panel.axhline(whole[0], color=colour, linestyle="--", linewidth=1, label=f"S={base} in every layer")
        panel.set_xticks(sorted({int(row["setting"].split()[2]) for row in rows}))
        panel.set_xlabel("layer with S=1")
        panel.set_title(title, fontsize=10)
        panel.grid(alpha=0.3, axis="y")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncol=len(labels), frameon=False, fontsize=9)
    figure.suptitle(f"One-hot in one layer alone, {length} tokens", fontsize=11)
    figure.tight_layout(rect=(0, 0.07, 1, 1))
    save(figure, path)


def draw(result, folder, name):
    """PNG files beside the results; a figure whose data are not there is left out."""
    if result["rows"]:
        methods_figure(result, folder / f"{name}.png")
        lengths_figure(result, folder / f"{name}_lengths.png")
    if any(row["setting"].startswith("one-hot layer") for row in result["rows"]):
        one_hot_figure(result, folder / f"{name}_one_hot.png")
    if result["variance"]:
        variance_figure(result, folder / f"{name}_variance.png")
