// CSV tables as typed cells: the only place that knows the CSV library.
//
// A table has a header line; cells may be quoted. Cells stay text until asked for; numbers go
// through std::from_chars, because the library's own double parser is wrong in the last bits. Lines
// that start with '#' are comments.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "models/error.h"

namespace stoat {

class Table {
 public:
  // Reads the whole file. Every column of `required` must be there; further columns are kept.
  // Throws Error with file and line for a missing column, a row with too few or too many cells, an
  // unterminated quote.
  static Table read(const std::string& path, const std::vector<std::string>& required);

  std::size_t size() const { return rows_.size(); }
  const std::vector<std::string>& columns() const { return columns_; }
  bool has_column(std::string_view name) const;
  const std::string& path() const { return path_; }

  // The cell as text; throws Bug for an unknown column.
  const std::string& text(std::size_t row, std::string_view column) const;
  // The cell as a number; throws Error with file and line when it is not wholly a number.
  double number(std::size_t row, std::string_view column) const;
  std::uint64_t integer(std::size_t row, std::string_view column) const;
  Place place(std::size_t row) const;  // file and line of a row

 private:
  std::size_t column_index(std::string_view name) const;

  std::string path_;
  std::vector<std::string> columns_;
  std::vector<std::vector<std::string>> rows_;
  std::vector<std::uint64_t> lines_;
};

// Tables of single values, `name,value,unit,source`: each name once.
class NamedValues {
 public:
  static NamedValues read(const std::string& path);
  bool has(std::string_view name) const;
  double number(std::string_view name,
                std::string_view unit) const;  // throws Error: missing name, other unit
  std::uint64_t integer(std::string_view name,
                        std::string_view unit) const;  // the same, whole numbers
  const std::string& text(std::string_view name) const;
  const std::string& source(std::string_view name) const;
  const std::vector<std::string>& names() const { return names_; }
  const Table& table() const { return table_; }

 private:
  std::size_t row(std::string_view name) const;

  Table table_;
  std::vector<std::string> names_;
};

}  // namespace stoat
