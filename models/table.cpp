#include "models/table.h"

#include <libfccp/csv.h>
#include <algorithm>
#include <charconv>
#include <filesystem>
#include <set>
#include <system_error>

namespace stoat {

namespace {

using Quotes = io::double_quote_escape<',', '"'>;
using Trim = io::trim_chars<' ', '\t', '\r'>;

// Cuts one line into unquoted cells, in place.
std::vector<std::string> cells_of(char* line, const Place& place) {
  std::vector<std::string> cells;
  while (true) {
    char* begin = line;
    char* end = nullptr;
    try {
      end = const_cast<char*>(Quotes::find_next_column_end(begin));
    } catch (const io::error::base&) {
      throw damaged_error(place, "a quote is not closed in this line",
                          "\"...\" with inner quotes doubled");
    }
    const bool last = *end == '\0';
    line = last ? end : end + 1;
    *end = '\0';
    Trim::trim(begin, end);
    Quotes::unescape(begin, end);
    cells.emplace_back(begin, end);
    if (last) return cells;
  }
}

}  // namespace

Table Table::read(const std::string& path, const std::vector<std::string>& required) {
  Table table;
  table.path_ = path;
  std::error_code ignored;
  if (std::filesystem::is_directory(path, ignored))
    throw usage_error({path}, "is a folder", "a CSV file");
  try {
    io::LineReader lines(path);
    while (char* line = lines.next_line()) {
      const std::uint64_t number = lines.get_file_line();
      if (*line == '#' || *line == '\0' || (*line == '\r' && line[1] == '\0')) continue;
      std::vector<std::string> cells = cells_of(line, {path, number});
      if (table.columns_.empty()) {
        table.columns_ = std::move(cells);
        continue;
      }
      if (cells.size() != table.columns_.size()) {
        throw damaged_error({path, number},
                            "this row has " + std::to_string(cells.size()) + " cells",
                            std::to_string(table.columns_.size()) + " as in the header");
      }
      table.rows_.push_back(std::move(cells));
      table.lines_.push_back(number);
    }
  } catch (const io::error::can_not_open_file&) {
    throw usage_error({path}, "this table cannot be opened", "a readable CSV file");
  } catch (const io::error::base& error) {
    throw damaged_error({path}, std::string("this table cannot be read: ") + error.what(),
                        "a CSV file with a header");
  }
  if (table.columns_.empty()) throw damaged_error({path}, "this table is empty", "a header line");
  if (std::set<std::string>(table.columns_.begin(), table.columns_.end()).size() !=
      table.columns_.size()) {
    throw damaged_error({path, 1}, "a column stands twice in the header", "each name once");
  }
  for (const std::string& name : required) {
    if (!table.has_column(name)) {
      throw damaged_error({path, 1}, "the column '" + name + "' is missing", "a header with it",
                          nearest_name_hint(name, table.columns_));
    }
  }
  return table;
}

bool Table::has_column(std::string_view name) const {
  return std::find(columns_.begin(), columns_.end(), name) != columns_.end();
}

std::size_t Table::column_index(std::string_view name) const {
  const auto found = std::find(columns_.begin(), columns_.end(), name);
  STOAT_ENSURE(found != columns_.end(), "column '" + std::string(name) + "' exists in " + path_);
  return static_cast<std::size_t>(found - columns_.begin());
}

const std::string& Table::text(std::size_t row, std::string_view column) const {
  return rows_.at(row)[column_index(column)];
}

Place Table::place(std::size_t row) const { return {path_, lines_.at(row)}; }

double Table::number(std::size_t row, std::string_view column) const {
  const std::string& cell = text(row, column);
  double value = 0;
  const auto [end, error] = std::from_chars(cell.data(), cell.data() + cell.size(), value);
  if (error != std::errc() || end != cell.data() + cell.size() || !(value - value == 0)) {
    throw damaged_error(place(row), "'" + cell + "' in column " + std::string(column),
                        "a finite number");
  }
  return value;
}

std::uint64_t Table::integer(std::size_t row, std::string_view column) const {
  const std::string& cell = text(row, column);
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(cell.data(), cell.data() + cell.size(), value);
  if (error != std::errc() || end != cell.data() + cell.size()) {
    throw damaged_error(place(row), "'" + cell + "' in column " + std::string(column),
                        "a whole number");
  }
  return value;
}

NamedValues NamedValues::read(const std::string& path) {
  NamedValues values;
  values.table_ = Table::read(path, {"name", "value", "unit", "source"});
  std::set<std::string> seen;
  for (std::size_t row = 0; row < values.table_.size(); ++row) {
    const std::string& name = values.table_.text(row, "name");
    if (!seen.insert(name).second)
      throw damaged_error(values.table_.place(row), "'" + name + "' stands twice",
                          "each name once");
    values.names_.push_back(name);
  }
  return values;
}

bool NamedValues::has(std::string_view name) const {
  return std::find(names_.begin(), names_.end(), name) != names_.end();
}

std::size_t NamedValues::row(std::string_view name) const {
  const auto found = std::find(names_.begin(), names_.end(), name);
  if (found == names_.end()) {
    throw damaged_error({table_.path()}, "the row '" + std::string(name) + "' is missing",
                        "a row name,value,unit,source", nearest_name_hint(name, names_));
  }
  return static_cast<std::size_t>(found - names_.begin());
}

double NamedValues::number(std::string_view name, std::string_view unit) const {
  const std::size_t index = row(name);
  if (table_.text(index, "unit") != unit) {
    throw damaged_error(
        table_.place(index),
        "'" + std::string(name) + "' has the unit '" + table_.text(index, "unit") + "'",
        "'" + std::string(unit) + "'");
  }
  return table_.number(index, "value");
}

std::uint64_t NamedValues::integer(std::string_view name, std::string_view unit) const {
  number(name, unit);  // checks the unit
  return table_.integer(row(name), "value");
}

const std::string& NamedValues::text(std::string_view name) const {
  return table_.text(row(name), "value");
}

const std::string& NamedValues::source(std::string_view name) const {
  return table_.text(row(name), "source");
}

}  // namespace stoat
