// From a figure's plain data to plotly's JSON. See figure.h.
#include "sim/sweep/figure.h"

#include <cmath>
#include <nlohmann/json.hpp>

#include "models/error.h"
#include "sim/sweep/html.h"

namespace stoat::sim {
namespace {

using Json = nlohmann::ordered_json;

Json numbers(const std::vector<double>& values) {
  Json out = Json::array();
  for (const double value : values) {
    if (std::isfinite(value)) {
      out.push_back(value);
    } else {
      out.push_back(nullptr);
    }
  }
  return out;
}

Json labels(const std::vector<std::string>& texts) {
  Json out = Json::array();
  for (const std::string& text : texts) out.push_back(escape_plot_text(text));
  return out;
}

// Colour names stay names ("@mac"); the page's script looks them up.
Json color(const std::string& name) { return "@" + name; }

Json bar(const Series& s) {
  const bool horizontal = s.kind == SeriesKind::kHorizontalBar;
  Json out = {{"type", "bar"}, {"orientation", horizontal ? "h" : "v"}};
  const std::vector<double>& values = horizontal ? s.x : s.y;
  out[horizontal ? "x" : "y"] = values.empty() ? Json::array({nullptr}) : numbers(values);
  out[horizontal ? "y" : "x"] = values.empty() ? Json::array({nullptr}) : labels(s.categories);
  Json marker;
  if (s.point_colors.empty()) {
    marker["color"] = color(s.color);
  } else {
    marker["color"] = Json::array();
    for (const std::string& name : s.point_colors) marker["color"].push_back(color(name));
  }
  marker["line"] = {{"width", 1}, {"color", "@paper"}};
  if (!s.pattern.empty()) {
    marker["pattern"] = {{"shape", s.pattern},    {"size", 7},           {"solidity", 0.2},
                         {"fillmode", "overlay"}, {"fgcolor", "@paper"}, {"fgopacity", 0.75}};
  }
  out["marker"] = std::move(marker);
  return out;
}

void add_error_bars(const Series& s, Json& out) {
  if (s.error_low.size() != s.y.size() || s.y.empty()) return;
  std::vector<double> above, below;
  for (std::size_t i = 0; i < s.y.size(); ++i) {
    above.push_back(s.error_high[i] - s.y[i]);
    below.push_back(s.y[i] - s.error_low[i]);
  }
  out["error_y"] = {{"type", "data"},          {"symmetric", false},
                    {"array", numbers(above)}, {"arrayminus", numbers(below)},
                    {"thickness", 1},          {"width", 3},
                    {"color", color(s.color)}};
}

Json line(const Series& s) {
  Json out = {{"type", "scatter"}, {"mode", s.marker.empty() ? "lines" : "lines+markers"}};
  out["x"] = numbers(s.x);
  out["y"] = numbers(s.y);
  out["line"] = {{"color", color(s.color)}, {"width", 2}, {"dash", s.dash}};
  if (!s.marker.empty()) {
    out["marker"] = {{"symbol", s.marker}, {"size", 8}, {"color", color(s.color)}};
  }
  if (!s.rows.empty()) out["customdata"] = s.rows;
  add_error_bars(s, out);
  return out;
}

Json points(const Series& s) {
  Json out = {{"type", "scatter"}, {"mode", "markers"}};
  out["x"] = numbers(s.x);
  out["y"] = numbers(s.y);
  out["marker"] = {{"symbol", s.marker.empty() ? "circle" : s.marker},
                   {"size", s.x.size() > 1000 ? 5 : 8},
                   {"color", color(s.color)},
                   {"opacity", s.x.size() > 1000 ? 0.6 : 0.85},
                   {"line", {{"width", s.x.size() > 1000 ? 0 : 1}, {"color", "@paper"}}}};
  if (!s.rows.empty()) out["customdata"] = s.rows;
  return out;
}

Json parallel(const Series& s) {
  Json out = {{"type", "parcoords"}, {"dimensions", Json::array()}};
  out["line"] = {{"color", numbers(s.y)}, {"colorscale", Json::array()}};
  for (int i = 0; i <= 2; ++i)  // the lighter ones do not stand out as lines
    out["line"]["colorscale"].push_back({i / 2.0, "@heat" + std::to_string(i + 2)});
  out["labelfont"] = {{"color", "@ink"}, {"size", 11}};
  out["tickfont"] = {{"color", "@ink"}, {"size", 10}};
  out["rangefont"] = {{"color", "@paper"}, {"size", 1}};
  for (const Series::Dimension& each : s.dimensions) {
    Json dimension = {{"label", escape_plot_text(each.title)}, {"values", numbers(each.values)}};
    if (!each.tick_values.empty()) {
      dimension["tickvals"] = numbers(each.tick_values);
      dimension["ticktext"] = labels(each.tick_texts);
    }
    out["dimensions"].push_back(std::move(dimension));
  }
  return out;
}

// One closed outline: along the upper edge and back along the lower.
Json band(const Series& s) {
  std::vector<double> x = s.x, y = s.y;
  for (std::size_t i = s.x.size(); i-- > 0;) {
    x.push_back(s.x[i]);
    y.push_back(s.y_low[i]);
  }
  return {{"type", "scatter"},
          {"mode", "lines"},
          {"x", numbers(x)},
          {"y", numbers(y)},
          {"line", {{"width", 0}}},
          {"fill", "toself"},
          {"fillcolor", color(s.color)},
          {"hoverinfo", "skip"}};
}

Json heat_map(const Series& s) {
  Json out = {{"type", "heatmap"}, {"x", numbers(s.x)}, {"y", numbers(s.y)}, {"z", Json::array()}};
  for (const auto& row : s.z) out["z"].push_back(numbers(row));
  out["zmin"] = s.color_range.first;
  out["zmax"] = s.color_range.second;
  out["colorscale"] = Json::array();
  for (int i = 0; i <= 4; ++i) out["colorscale"].push_back({i / 4.0, "@heat" + std::to_string(i)});
  Json bar = {{"title", {{"text", escape_plot_text(s.color_title)}, {"side", "right"}}},
              {"thickness", 12},
              {"outlinewidth", 0},
              {"len", 1}};
  if (!s.color_ticks.empty()) {
    bar["tickvals"] = numbers(s.color_ticks);
    bar["ticktext"] = labels(s.color_tick_texts);
  }
  out["colorbar"] = std::move(bar);
  return out;
}

Json series_json(const Series& s) {
  Json out;
  switch (s.kind) {
    case SeriesKind::kBar:
    case SeriesKind::kHorizontalBar:
      out = bar(s);
      break;
    case SeriesKind::kLine:
      out = line(s);
      break;
    case SeriesKind::kBand:
      out = band(s);
      break;
    case SeriesKind::kHeatMap:
      out = heat_map(s);
      break;
    case SeriesKind::kPoints:
      out = points(s);
      break;
    case SeriesKind::kParallel:
      return parallel(s);
  }
  out["name"] = escape_plot_text(s.name);
  if (!s.hover.empty()) out["hovertemplate"] = s.hover;
  if (!s.group.empty()) out["legendgroup"] = escape_plot_text(s.group);
  if (s.kind != SeriesKind::kHeatMap) out["showlegend"] = s.legend;
  if (s.x_axis > 0) out["xaxis"] = "x" + std::to_string(s.x_axis + 1);
  if (s.y_axis > 0) out["yaxis"] = "y" + std::to_string(s.y_axis + 1);
  return out;
}

Json axis_json(const Axis& axis) {
  Json out = {{"title", {{"text", escape_plot_text(axis.title)}, {"standoff", 10}}},
              {"automargin", true},
              {"domain", {axis.domain.first, axis.domain.second}},
              {"showgrid", axis.grid},
              {"gridcolor", "@grid"},
              {"linecolor", "@rule"},
              {"tickcolor", "@rule"},
              {"zeroline", false},
              {"showline", !axis.grid},
              {"fixedrange", true}};
  if (axis.log) {
    out["type"] = "log";
    out["exponentformat"] = "power";
  } else if (axis.category) {
    out["type"] = "category";
  } else {
    out["separatethousands"] = true;
    out["exponentformat"] = "none";
  }
  if (axis.range) {
    const auto at = [&](double v) { return axis.log ? std::log10(v) : v; };
    out["range"] = {at(axis.range->first), at(axis.range->second)};
    if (axis.reversed) std::swap(out["range"][0], out["range"][1]);
  } else if (axis.reversed) {
    out["autorange"] = "reversed";
  }
  if (!axis.tick_values.empty()) {
    out["tickvals"] = numbers(axis.tick_values);
    out["ticktext"] = labels(axis.tick_texts);
  }
  return out;
}

Json annotation_json(const Figure& figure, const Annotation& a) {
  // On a log axis plotly wants the exponent.
  const auto at = [](const std::vector<Axis>& axes, int axis, double v) {
    return axis >= 0 && axes[static_cast<std::size_t>(axis)].log ? std::log10(v) : v;
  };
  const auto ref = [](char letter, int axis) -> std::string {
    if (axis < 0) return "paper";
    return axis == 0 ? std::string(1, letter) : letter + std::to_string(axis + 1);
  };
  Json out = {{"text", escape_plot_text(a.text)},
              {"x", at(figure.x_axes, a.x_axis, a.x)},
              {"y", at(figure.y_axes, a.y_axis, a.y)},
              {"xref", ref('x', a.x_axis)},
              {"yref", ref('y', a.y_axis)},
              {"xanchor", a.x_anchor},
              {"yanchor", a.y_anchor},
              {"showarrow", a.arrow_from.has_value()},
              {"font", {{"color", color(a.color)}, {"size", 12}}}};
  if (a.arrow_from) {
    out["ax"] = at(figure.x_axes, a.x_axis, a.arrow_from->first);
    out["ay"] = at(figure.y_axes, a.y_axis, a.arrow_from->second);
    out["axref"] = out["xref"];
    out["ayref"] = out["yref"];
    out["arrowhead"] = 2;
    out["arrowwidth"] = 2;
    out["arrowcolor"] = color(a.color);
    out["standoff"] = out["startstandoff"] = 6;
  }
  return out;
}

Json layout_json(const Figure& figure) {
  Json layout = {
      {"height", figure.height},
      {"margin", {{"l", 8}, {"r", 8}, {"t", 8}, {"b", 8}, {"pad", 4}}},
      {"paper_bgcolor", "rgba(0,0,0,0)"},
      {"plot_bgcolor", "rgba(0,0,0,0)"},
      {"font",
       {{"family", "system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif"},
        {"size", 12},
        {"color", "@ink"}}},
      {"hoverlabel",
       {{"bgcolor", "@paper"}, {"bordercolor", "@rule"}, {"font", {{"color", "@ink"}}}}},
      {"legend",
       {{"orientation", "h"},
        {"x", 0},
        {"xanchor", "left"},
        {"y", 1.02},
        {"yanchor", "bottom"},
        {"traceorder", "normal"}}},
      {"hovermode", "closest"},
      {"separators", ".\xE2\x80\xAF"}};
  if (!figure.series.empty() && figure.series.front().kind == SeriesKind::kParallel) {
    layout["margin"] = {{"l", 64}, {"r", 44}, {"t", 48}, {"b", 16}, {"pad", 0}};
    return layout;
  }
  for (std::size_t i = 0; i < figure.x_axes.size(); ++i) {
    Json axis = axis_json(figure.x_axes[i]);
    axis["anchor"] = i == 0 || i >= figure.y_axes.size() ? "y" : "y" + std::to_string(i + 1);
    layout[i == 0 ? "xaxis" : "xaxis" + std::to_string(i + 1)] = std::move(axis);
  }
  for (std::size_t i = 0; i < figure.y_axes.size(); ++i) {
    Json axis = axis_json(figure.y_axes[i]);
    axis["anchor"] = i == 0 || i >= figure.x_axes.size() ? "x" : "x" + std::to_string(i + 1);
    layout[i == 0 ? "yaxis" : "yaxis" + std::to_string(i + 1)] = std::move(axis);
  }
  bool bars = false;
  for (const Series& s : figure.series) {
    bars |= s.kind == SeriesKind::kBar || s.kind == SeriesKind::kHorizontalBar;
  }
  if (bars) {
    layout["barmode"] = figure.stacked ? "stack" : "group";
    layout["bargap"] = 0.35;
  }
  if (!figure.annotations.empty()) {
    layout["annotations"] = Json::array();
    for (const Annotation& a : figure.annotations)
      layout["annotations"].push_back(annotation_json(figure, a));
  }
  return layout;
}

}  // namespace

std::string figure_json(const Figure& figure) {
  Json data = Json::array();
  for (const Series& s : figure.series) data.push_back(series_json(s));
  const Json whole = {{"data", std::move(data)}, {"layout", layout_json(figure)}};
  return whole.dump(-1, ' ', false, Json::error_handler_t::replace);
}

std::string datapath_color(const std::string& datapath) {
  for (const char* known : {"mac", "gather_add", "ternary", "topk"}) {
    if (datapath == known) return datapath;
  }
  return "other";
}

std::string neutral_color(std::size_t n) { return "shade" + std::to_string(n % 8); }

std::string neutral_pattern(std::size_t n) {
  constexpr std::array<const char*, 8> kPatterns = {"", "/", ".", "-", "x", "|", "\\", "+"};
  return kPatterns[n % kPatterns.size()];
}

}  // namespace stoat::sim
