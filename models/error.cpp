#include "models/error.h"

#include <algorithm>
#include <numeric>
#include <utility>

namespace stoat {

std::string Place::text() const {
  std::string out = file;
  if (line != 0) {
    out += ":" + std::to_string(line);
    if (column != 0) out += ":" + std::to_string(column);
  }
  return out;
}

namespace {

std::string compose(const Place& place, std::string_view found, std::string_view expected,
                    std::string_view remedy) {
  std::string text = place.text();
  if (!text.empty()) text += ": ";
  text += found;
  if (!expected.empty()) text.append("; expected ").append(expected);
  if (!remedy.empty()) text.append("; ").append(remedy);
  return text;
}

// Insert, remove, replace, swap of two neighbours: one edit each (optimal string alignment).
std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> two_back(b.size() + 1), back(b.size() + 1), row(b.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::swap(two_back, back);
    std::swap(back, row);
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t replaced = back[j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1);
      row[j] = std::min({back[j] + 1, row[j - 1] + 1, replaced});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
        row[j] = std::min(row[j], two_back[j - 2] + 1);
    }
  }
  return row[b.size()];
}

}  // namespace

Error usage_error(const Place& place, std::string_view found, std::string_view expected,
                  std::string_view remedy) {
  return Error(ExitCode::kUsage, compose(place, found, expected, remedy));
}

Error damaged_error(const Place& place, std::string_view found, std::string_view expected,
                    std::string_view remedy) {
  return Error(ExitCode::kDamaged, compose(place, found, expected, remedy));
}

Error resource_error(const Place& place, std::string_view found, std::string_view expected,
                     std::string_view remedy) {
  return Error(ExitCode::kResource, compose(place, found, expected, remedy));
}

std::string nearest_name(std::string_view found, const std::vector<std::string>& known) {
  const std::string* best = nullptr;
  std::size_t best_distance = std::max<std::size_t>(1, found.size() / 3) + 1;
  for (const std::string& name : known) {
    const std::size_t distance = edit_distance(found, name);
    if (distance < best_distance) {
      best_distance = distance;
      best = &name;
    }
  }
  return best != nullptr ? *best : std::string();
}

std::string nearest_name_hint(std::string_view found, const std::vector<std::string>& known) {
  const std::string best = nearest_name(found, known);
  if (!best.empty()) return "did you mean '" + best + "'?";
  std::string text = "known: ";
  for (std::size_t i = 0; i < known.size(); ++i) text += (i == 0 ? "" : ", ") + known[i];
  return text;
}

}  // namespace stoat
