// Escaping, tables and numbers of the report page. See html.h.
#include "sim/sweep/html.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstdint>

#include "models/error.h"

namespace stoat::sim {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";  // U+FFFD
constexpr std::string_view kNarrowSpace = "\xE2\x80\xAF";  // U+202F, narrow no-break space
constexpr std::string_view kMinus = "\xE2\x88\x92";        // U+2212

// Length of the well-formed UTF-8 sequence at the start of text, 0 when there is none.
std::size_t utf8_length(std::string_view text) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char lead = byte(0);
  if (lead < 0x80) return 1;
  std::size_t length = 0;
  std::uint32_t code = 0;
  if ((lead & 0xE0) == 0xC0) {
    length = 2;
    code = lead & 0x1Fu;
  } else if ((lead & 0xF0) == 0xE0) {
    length = 3;
    code = lead & 0x0Fu;
  } else if ((lead & 0xF8) == 0xF0) {
    length = 4;
    code = lead & 0x07u;
  } else {
    return 0;
  }
  if (text.size() < length) return 0;
  for (std::size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xC0) != 0x80) return 0;
    code = (code << 6) | (byte(i) & 0x3Fu);
  }
  constexpr std::array<std::uint32_t, 5> kLeast = {0, 0, 0x80, 0x800, 0x10000};
  const bool surrogate = code >= 0xD800 && code <= 0xDFFF;
  return code < kLeast[length] || surrogate || code > 0x10FFFF ? 0 : length;
}

// Copies well-formed text; `special` replaces single ASCII characters (empty: copy).
template <class Special>
std::string rewrite(std::string_view text, Special special) {
  std::string out;
  out.reserve(text.size() + text.size() / 8);
  while (!text.empty()) {
    const std::size_t length = utf8_length(text);
    const auto c = static_cast<unsigned char>(text.front());
    if (length == 0 || (c < 0x20 && c != '\t' && c != '\n') || c == 0x7F) {
      out += kReplacement;
      text.remove_prefix(1);
      continue;
    }
    const std::string_view replaced = length == 1 ? special(text.front()) : std::string_view();
    out += replaced.empty() ? text.substr(0, length) : replaced;
    text.remove_prefix(length);
  }
  return out;
}

void replace_all(std::string& text, std::string_view from, std::string_view to) {
  for (std::size_t at = text.find(from); at != std::string::npos; at = text.find(from, at)) {
    text.replace(at, from.size(), to);
    at += to.size();
  }
}

// Groups the digits before the decimal point by three.
std::string group_digits(std::string digits) {
  const std::size_t start = digits.starts_with('-') ? 1 : 0;
  const std::size_t point = std::min(digits.find('.'), digits.size());
  for (std::size_t at = point; at > start + 3 && point - start > 4;) {
    at -= 3;
    digits.insert(at, kNarrowSpace);
  }
  if (start == 1) digits.replace(0, 1, kMinus);
  return digits;
}

Scale pick_scale(double largest, std::initializer_list<Scale> steps) {
  const Scale* chosen = steps.begin();
  for (const Scale& step : steps) {
    if (largest * step.factor >= 1.0) chosen = &step;
  }
  return *chosen;
}

}  // namespace

std::string escape_html(std::string_view text) {
  return rewrite(text, [](char c) -> std::string_view {
    switch (c) {
      case '&':
        return "&amp;";
      case '<':
        return "&lt;";
      case '>':
        return "&gt;";
      case '"':
        return "&quot;";
      case '\'':
        return "&#39;";
      default:
        return {};
    }
  });
}

std::string escape_plot_text(std::string_view text) {
  return rewrite(text, [](char c) -> std::string_view {
    switch (c) {
      case '&':
        return "&amp;";
      case '<':
        return "&lt;";
      case '>':
        return "&gt;";
      default:
        return {};
    }
  });
}

std::string escape_json_for_script(std::string_view json) {
  std::string out(json);
  replace_all(out, "<", "\\u003c");
  replace_all(out, ">", "\\u003e");
  replace_all(out, "&", "\\u0026");
  replace_all(out, "\xE2\x80\xA8", "\\u2028");
  replace_all(out, "\xE2\x80\xA9", "\\u2029");
  return out;
}

std::string escape_script_source(std::string_view source) {
  std::string out;
  out.reserve(source.size() + 64);
  constexpr std::string_view kClose = "/script";
  for (std::size_t i = 0; i < source.size(); ++i) {
    out += source[i];
    if (source[i] != '<' || i + 1 >= source.size()) continue;
    bool close = source.size() - i > kClose.size();
    for (std::size_t k = 0; close && k < kClose.size(); ++k) {
      const char c = source[i + 1 + k];
      close = (c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c) == kClose[k];
    }
    if (close || source.substr(i, 4) == "<!--") out += '\\';
  }
  return out;
}

std::string csv_data_uri(std::string_view csv) {
  constexpr std::string_view kHex = "0123456789ABCDEF";
  std::string out = "data:text/csv;charset=utf-8,";
  out.reserve(out.size() + csv.size() * 2);
  for (const char c : csv) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                       c == '-' || c == '_' || c == '.' || c == '~';
    if (plain) {
      out += c;
    } else {
      const auto byte = static_cast<unsigned char>(c);
      out += '%';
      out += kHex[byte >> 4];
      out += kHex[byte & 15];
    }
  }
  return out;
}

std::string csv_cell(std::string_view text) {
  const bool blank_edge = !text.empty() && (text.front() == ' ' || text.back() == ' ');
  if (text.find_first_of(",\"\r\n") == std::string_view::npos && !blank_edge)
    return std::string(text);
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"') out += '"';
    out += c;
  }
  return out + '"';
}

std::string significant(double value, int digits) {
  if (!std::isfinite(value)) return "n/a";
  if (value == 0) return "0";
  const double magnitude = std::abs(value);
  if (magnitude < 1e-4 || magnitude >= 1e9) {
    const std::string text = fmt::format("{:.{}e}", value, digits - 1);
    const std::size_t e = text.find('e');
    int exponent = 0;
    const char* first = text.data() + e + (text[e + 1] == '+' ? 2 : 1);
    std::from_chars(first, text.data() + text.size(), exponent);
    return fmt::format("{}e{}", text.substr(0, e), exponent);
  }
  // Round to the digits first: 999.96 has four of them as 1000, not as 1000.0.
  const std::string rounded_text = fmt::format("{:.{}e}", magnitude, digits - 1);
  double rounded = 0;
  std::from_chars(rounded_text.data(), rounded_text.data() + rounded_text.size(), rounded);
  const int exponent = static_cast<int>(std::floor(std::log10(rounded) + 1e-12));
  const int decimals = std::max(0, digits - 1 - exponent);
  return group_digits(fmt::format("{:.{}f}", value < 0 ? -rounded : rounded, decimals));
}

std::string exact_number(double value) {
  if (!std::isfinite(value)) return {};
  std::array<char, 40> buffer{};
  const auto end = std::to_chars(buffer.data(), buffer.data() + buffer.size(), value).ptr;
  return std::string(buffer.data(), end);
}

std::string grouped(std::uint64_t value) { return group_digits(std::to_string(value)); }

Scale energy_scale(double largest_joules) {
  return pick_scale(largest_joules,
                    {{1e12, "pJ"}, {1e9, "nJ"}, {1e6, "µJ"}, {1e3, "mJ"}, {1, "J"}});
}

Scale time_scale(double largest_seconds) {
  return pick_scale(largest_seconds, {{1e9, "ns"}, {1e6, "µs"}, {1e3, "ms"}, {1, "s"}});
}

Scale bytes_scale(double largest_bytes) {
  return pick_scale(largest_bytes, {{1, "B"},
                                    {1.0 / 1024, "KiB"},
                                    {1.0 / (1024.0 * 1024), "MiB"},
                                    {1.0 / (1024.0 * 1024 * 1024), "GiB"}});
}

void HtmlTable::add_row(std::vector<std::string> cells, std::string accent) {
  STOAT_ENSURE(cells.size() == columns_.size(),
               "a table row has as many cells as the table has columns");
  rows_.push_back(std::move(cells));
  accents_.push_back(std::move(accent));
}

std::string HtmlTable::html(std::string_view caption) const {
  std::string out = "<div class=\"table\"><table>\n";
  if (!caption.empty()) out += fmt::format("<caption>{}</caption>\n", escape_html(caption));
  out += "<thead><tr>";
  for (const HtmlColumn& column : columns_) {
    out += fmt::format("<th scope=\"col\"{}>{}", column.numeric ? " class=\"num\"" : "",
                       escape_html(column.title));
    if (!column.unit.empty())
      out += fmt::format("<span class=\"unit\">{}</span>", escape_html(column.unit));
    out += "</th>";
  }
  out += "</tr></thead>\n<tbody>\n";
  for (std::size_t r = 0; r < rows_.size(); ++r) {
    out += "<tr>";
    for (std::size_t c = 0; c < columns_.size(); ++c) {
      const std::string cell = escape_html(rows_[r][c]);
      const std::string_view number = columns_[c].numeric ? " class=\"num\"" : "";
      if (c == 0) {
        const std::string swatch = accents_[r].empty() ? ""
                                                       : fmt::format("<i class=\"swatch {}\"></i>",
                                                                     escape_html(accents_[r]));
        const std::string_view kind = accents_[r].empty() ? number : " class=\"name-cell\"";
        out += fmt::format("<th scope=\"row\"{}>{}{}</th>", kind, swatch, cell);
      } else {
        out += fmt::format("<td{}>{}</td>", number, cell);
      }
    }
    out += "</tr>\n";
  }
  return out + "</tbody></table></div>\n";
}

}  // namespace stoat::sim
