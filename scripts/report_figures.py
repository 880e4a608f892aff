#!/usr/bin/env python3
"""Draws the figures of `stoat report --static OUT` as OUT/ID.svg and OUT/ID.png, with matplotlib.

  report_figures.py OUT/figures.json OUT

figures.json holds what the page would give plotly (bars, lines, points, heat maps, parallel coordinates); this knows
just that much of it. The same input gives the same SVG bytes. Exit code 4: matplotlib is not installed.
"""

import html
import json
import math
import os
import pathlib
import re
import sys

NO_MATPLOTLIB = 4
MARKERS = {"circle": "o", "square": "s", "diamond": "D", "triangle-up": "^", "triangle-down": "v", "cross": "P",
           "x": "X", "star": "*"}
DASHES = {"solid": "-", "dash": "--", "dot": ":", "dashdot": "-."}
HATCHES = {"": "", "/": "//", "\\": "\\\\", "x": "xx", "-": "--", "|": "||", "+": "++", ".": ".."}
WIDTH = 7.2  # inches


def palette(style):
    """Colours of the style sheet's first block: the light page."""
    return dict(re.findall(r"--([\w]+):\s*(#[0-9a-fA-F]{6})", style.split("}")[0]))


class Painter:
    def __init__(self, plt, colors):
        self.plt = plt
        self.colors = colors

    def color(self, name, fallback="#1d2126"):
        """'@mac' or '@ink/0.5' as an (r, g, b, a)."""
        if not isinstance(name, str) or not name.startswith("@"):
            return self.plt.matplotlib.colors.to_rgba(fallback)
        base, _, alpha = name[1:].partition("/")
        return self.plt.matplotlib.colors.to_rgba(self.colors.get(base, fallback), float(alpha) if alpha else 1.0)


def gaps(values):
    return [math.nan if value is None else value for value in values]


def axis_number(name):
    return int(name[1:] or 1) - 1


def set_axis(ax, which, axis, categories, no_minor):
    """Title, scale, ticks and range of one axis of `ax`."""
    if axis is None:
        return
    getattr(ax, f"set_{which}label")(html.unescape(axis.get("title", {}).get("text", "")))
    if axis.get("type") == "log":
        getattr(ax, f"set_{which}scale")("log")
    ticks, texts = axis.get("tickvals"), axis.get("ticktext")
    if categories:
        ticks, texts = list(range(len(categories))), categories
    if ticks:
        getattr(ax, f"set_{which}ticks")(ticks, [html.unescape(text) for text in texts] if texts else None)
        if axis.get("type") == "log":
            getattr(ax, f"{which}axis").set_minor_locator(no_minor())
    if axis.get("range"):
        low, high = axis["range"]
        getattr(ax, f"set_{which}lim")(*((10**low, 10**high) if axis.get("type") == "log" else (low, high)))
    elif axis.get("autorange") == "reversed":
        getattr(ax, f"invert_{which}axis")()
    if axis.get("showgrid"):
        ax.grid(True, axis=which, color="#e9ecee", linewidth=0.6)


def plain_logs(ax, ticker):
    """Numbers instead of powers on log axes that span less than two decades."""
    for axis in (ax.xaxis, ax.yaxis):
        low, high = sorted(axis.get_view_interval())
        if axis.get_scale() == "log" and low > 0 and high < 100 * low and len(axis.get_majorticklocs()) < 30 \
                and not isinstance(axis.get_major_formatter(), ticker.FixedFormatter):
            axis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:g}"))
            axis.set_minor_formatter(ticker.FuncFormatter(
                lambda value, _: f"{value:g}" if f"{value:e}"[0] in "125" else ""))


def draw_bars(ax, paint, bars, stacked):
    """Bars of one panel; returns the categories in their order and whether they lie on the vertical axis."""
    horizontal = bars[0]["orientation"] == "h"
    names, values = ("y", "x") if horizontal else ("x", "y")
    order = list(dict.fromkeys(name for bar in bars for name in bar[names] if name is not None))
    place = {name: i for i, name in enumerate(order)}
    width = 0.7 if stacked else 0.7 / len(bars)
    base = [0.0] * len(order)
    for n, bar in enumerate(bars):
        marker = bar["marker"]
        shift = 0 if stacked else (n - (len(bars) - 1) / 2) * width
        for i, (name, value) in enumerate(zip(bar[names], gaps(bar[values]))):
            if name is None or math.isnan(value):
                continue
            at = place[name]
            color = marker["color"][i] if isinstance(marker["color"], list) else marker["color"]
            options = {"color": paint.color(color), "edgecolor": "white", "linewidth": 0.5,
                       "hatch": HATCHES.get(marker.get("pattern", {}).get("shape", ""), ""),
                       "label": html.unescape(bar["name"]) if i == 0 and bar.get("showlegend", True) else None}
            if horizontal:
                ax.barh(at + shift, value, width, left=base[at], **options)
            else:
                ax.bar(at + shift, value, width, bottom=base[at], **options)
            if stacked:
                base[at] += value
    return order, horizontal


def draw_trace(ax, paint, trace):
    label = html.unescape(trace.get("name", "")) if trace.get("showlegend", True) else None
    if trace["type"] == "heatmap":
        grid = [gaps(row) for row in trace["z"]]
        colors = [(at, paint.color(name)) for at, name in trace["colorscale"]]
        scale = paint.plt.matplotlib.colors.LinearSegmentedColormap.from_list("stoat", colors)
        image = ax.pcolormesh(trace["x"], trace["y"], grid, cmap=scale, vmin=trace["zmin"], vmax=trace["zmax"],
                              shading="nearest", rasterized=True)
        bar = ax.figure.colorbar(image, ax=ax)
        bar.set_label(html.unescape(trace["colorbar"]["title"]["text"]))
        if trace["colorbar"].get("tickvals"):
            bar.set_ticks(trace["colorbar"]["tickvals"], labels=trace["colorbar"].get("ticktext"))
        return
    x, y = gaps(trace["x"]), gaps(trace["y"])
    if trace.get("fill") == "toself":
        ax.fill(x, y, color=paint.color(trace["fillcolor"]), linewidth=0, label=label)
        return
    marker = trace.get("marker", {})
    line = trace.get("line", {})
    lines = "lines" in trace["mode"]
    color = paint.color(line.get("color") if lines else marker.get("color"))
    hollow = marker.get("symbol", "").endswith("-open")
    style = {"color": color, "fillstyle": "none" if hollow else "full", "label": label, "markersize": 4 if len(x) > 200 else 5,
             "marker": MARKERS.get(marker.get("symbol", "").removesuffix("-open"), "o") if "markers" in trace["mode"] else None,
             "linestyle": DASHES.get(line.get("dash", "solid"), "-") if lines else "none", "linewidth": 1.4,
             "markeredgecolor": color if hollow else "white", "markeredgewidth": 0.9 if hollow else 0.4}
    bars = trace.get("error_y")
    if bars:
        low = [max(0, value) if value is not None else 0 for value in bars["arrayminus"]]
        high = [max(0, value) if value is not None else 0 for value in bars["array"]]
        ax.errorbar(x, y, yerr=[low, high], capsize=2, elinewidth=0.8, **style)
    else:
        ax.plot(x, y, **style)


def draw_parallel(figure, paint, trace):
    """One line a point over axes that each go from their least to their largest value."""
    ax = figure.add_subplot()
    dimensions = trace["dimensions"]
    shade = gaps(trace["line"]["color"])
    low, high = min(shade), max(shade)
    colors = [(at, paint.color(name)) for at, name in trace["line"]["colorscale"]]
    scale = paint.plt.matplotlib.colors.LinearSegmentedColormap.from_list("stoat", colors)
    spans = []
    for dimension in dimensions:
        values = gaps(dimension["values"])
        spans.append((min(values), max(values) if max(values) > min(values) else min(values) + 1))
    for i, value in enumerate(shade):
        heights = [(d["values"][i] - lo) / (hi - lo) for d, (lo, hi) in zip(dimensions, spans)]
        ax.plot(range(len(dimensions)), heights, linewidth=0.6, color=scale((value - low) / ((high - low) or 1)))
    for n, (dimension, (lo, hi)) in enumerate(zip(dimensions, spans)):
        ax.axvline(n, color="#5d6771", linewidth=0.6)
        marks = list(zip(dimension.get("tickvals") or [lo, hi], dimension.get("ticktext") or [f"{lo:.3g}", f"{hi:.3g}"]))
        for value, text in marks if len(marks) <= 14 else (marks[0], marks[-1]):
            ax.annotate(html.unescape(text), (n, (value - lo) / (hi - lo)), xytext=(2, 0), textcoords="offset points",
                        fontsize=6, va="center")
    ax.set_xticks(range(len(dimensions)), [html.unescape(d["label"]) for d in dimensions], rotation=20, ha="right")
    ax.set_yticks([])
    for side in ("top", "right", "left", "bottom"):
        ax.spines[side].set_visible(False)


def panels(traces):
    """Traces by their pair of axes, in order of appearance."""
    found = {}
    for trace in traces:
        found.setdefault((axis_number(trace.get("xaxis", "x")), axis_number(trace.get("yaxis", "y"))), []).append(trace)
    return found


def axis_of(layout, which, n):
    return layout.get(f"{which}axis" + (str(n + 1) if n else ""))


def draw_notes(figure, axes, paint, layout):
    for note in layout.get("annotations", []):
        ax = axes.get((axis_number(note["xref"]) if note["xref"] != "paper" else 0,
                       axis_number(note["yref"]) if note["yref"] != "paper" else 0), next(iter(axes.values())))
        log = [axis.get_scale() == "log" for axis in (ax.xaxis, ax.yaxis)]
        point = [10**value if is_log and ref != "paper" else value
                 for value, is_log, ref in zip((note["x"], note["y"]), log, (note["xref"], note["yref"]))]
        if note.get("showarrow"):
            start = [10**value if is_log else value for value, is_log in zip((note["ax"], note["ay"]), log)]
            ax.annotate("", point, start, arrowprops={"arrowstyle": "->", "linewidth": 1.4, "shrinkA": 5, "shrinkB": 5,
                                                      "color": paint.color(note["arrowcolor"])})
            continue
        frame = {("paper", "paper"): figure.transSubfigure}.get((note["xref"], note["yref"]))
        if frame is None:
            frame = {(True, False): ax.get_yaxis_transform(), (False, True): ax.get_xaxis_transform(),
                     (False, False): ax.transData}[(note["xref"] == "paper", note["yref"] == "paper")]
        ax.text(*point, html.unescape(note["text"]), transform=frame, fontsize=7, ha=note["xanchor"],
                va={"middle": "center"}.get(note["yanchor"], note["yanchor"]), color=paint.color(note["font"]["color"]))


def draw(plt, paint, spec):
    layout, traces = spec["plot"]["layout"], spec["plot"]["data"]
    named = {trace.get("name") for trace in traces if trace.get("name") and trace.get("showlegend", True)}
    height = max(2.6, layout["height"] / 100)
    columns = 2 if max((len(name) for name in named), default=0) > 24 else 3
    above = max(0.08, 0.17 * -(-len(named) // columns))  # the legend's lines
    whole = plt.figure(figsize=(WIDTH, height + above), layout="constrained")
    top, figure = whole.subfigures(2, 1, height_ratios=[above, height])
    legend_columns = columns
    if traces[0]["type"] == "parcoords":
        draw_parallel(figure, paint, traces[0])
        return whole
    found = panels(traces)
    domain = {key: (axis_of(layout, "x", key[0])["domain"], axis_of(layout, "y", key[1])["domain"]) for key in found}
    columns = sorted({tuple(x) for x, _ in domain.values()})
    rows = sorted({tuple(y) for _, y in domain.values()}, reverse=True)
    grid = figure.add_gridspec(len(rows), len(columns), width_ratios=[b - a for a, b in columns],
                               height_ratios=[b - a for a, b in rows])
    axes, vertical = {}, {}
    for key, members in found.items():
        x, y = domain[key]
        ax = figure.add_subplot(grid[rows.index(tuple(y)), columns.index(tuple(x))], sharey=vertical.get(key[1]))
        bars = [trace for trace in members if trace["type"] == "bar"]
        order, horizontal = draw_bars(ax, paint, bars, layout.get("barmode") == "stack") if bars else ([], False)
        for trace in members:
            if trace["type"] != "bar":
                draw_trace(ax, paint, trace)
        set_axis(ax, "x", axis_of(layout, "x", key[0]), order if bars and not horizontal else [],
                 plt.matplotlib.ticker.NullLocator)
        if key[1] in vertical:  # beside a panel that says what the rows are
            ax.tick_params(labelleft=False)
            ax.grid(True, axis="y", color="#e9ecee", linewidth=0.6)
        else:
            set_axis(ax, "y", axis_of(layout, "y", key[1]), order if horizontal else [], plt.matplotlib.ticker.NullLocator)
            vertical[key[1]] = ax
        ax.set_axisbelow(True)
        for side in ("top", "right"):
            ax.spines[side].set_visible(False)
        axes[key] = ax
    for ax in axes.values():
        plain_logs(ax, plt.matplotlib.ticker)
    draw_notes(figure, axes, paint, layout)
    handles = {}
    for ax in axes.values():
        for handle, label in zip(*ax.get_legend_handles_labels()):
            handles.setdefault(label, handle)
    if handles:
        top.legend(handles.values(), handles.keys(), loc="center left", ncols=legend_columns, fontsize=7, frameon=False,
                   borderaxespad=0.2, labelspacing=0.2)
    return whole


def main():
    if len(sys.argv) != 3:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        import matplotlib
        matplotlib.use("Agg")
        import matplotlib.pyplot as plt
        import matplotlib.ticker  # noqa: F401
    except ImportError as error:
        print(f"report_figures: {error}: apt-get install python3-matplotlib", file=sys.stderr)
        return NO_MATPLOTLIB
    plt.matplotlib = matplotlib
    plt.rcParams.update({"font.size": 8, "svg.hashsalt": "stoat", "svg.fonttype": "path", "hatch.linewidth": 0.5})
    data = json.loads(pathlib.Path(sys.argv[1]).read_text(encoding="utf-8"))
    paint = Painter(plt, palette(data["style"]))
    for spec in data["figures"]:
        figure = draw(plt, paint, spec)
        out = pathlib.Path(sys.argv[2], spec["id"])
        figure.savefig(f"{out}.svg", metadata={"Date": None, "Title": spec["title"]})
        figure.savefig(f"{out}.png", dpi=200, metadata={"Title": spec["title"]})
        plt.close(figure)
    return 0


if __name__ == "__main__":
    os.environ.setdefault("MPLCONFIGDIR", os.path.join(os.environ.get("TMPDIR", "/tmp"), f"stoat-mpl-{os.getuid()}"))
    sys.exit(main())
