// Reading a manifest as a list. See report_manifest.h.
#include "sim/sweep/report_manifest.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "models/error.h"
#include "models/files.h"

namespace stoat::sim {
namespace {

// A path from the root tells about a machine: only its last part is kept.
std::string without_folders(const std::string& text) {
  std::string out;
  std::size_t at = 0;
  while (at <= text.size()) {
    const std::size_t end = std::min(text.find(' ', at), text.size());
    const std::string word = text.substr(at, end - at);
    const std::size_t equals = word.find("=/");
    const std::size_t start = word.starts_with('/')         ? 0
                              : equals == std::string::npos ? word.size()
                                                            : equals + 1;
    const std::size_t slash = word.rfind('/');
    const bool path = start < word.size() && slash + 1 < word.size() &&
                      word.find('/', start + 1) != std::string::npos;
    out += path ? word.substr(0, start) + "…/" + word.substr(slash + 1) : word;
    if (end < text.size()) out += ' ';
    at = end + 1;
  }
  return out;
}

using Entries = std::vector<std::pair<std::string, std::string>>;

std::string scalar_text(const nlohmann::ordered_json& value) {
  return without_folders(value.is_string() ? value.get<std::string>() : value.dump());
}

// "trace.content_hash" -> value; a list of plain values is one entry. False when it is nested too
// deep to be ours.
bool flatten(const nlohmann::ordered_json& value, const std::string& name, int depth,
             Entries& out) {
  constexpr int kDeepest = 16;
  if (depth > kDeepest) return false;
  if (value.is_object()) {
    for (const auto& item : value.items()) {
      const std::string path = name.empty() ? item.key() : name + "." + item.key();
      if (!flatten(item.value(), path, depth + 1, out)) return false;
    }
  } else if (!value.is_array()) {
    out.emplace_back(name, scalar_text(value));
  } else if (std::any_of(value.begin(), value.end(),
                         [](const auto& v) { return v.is_structured(); })) {
    for (std::size_t i = 0; i < value.size(); ++i) {
      if (!flatten(value[i], fmt::format("{}[{}]", name, i), depth + 1, out)) return false;
    }
  } else {
    std::string joined;
    for (const auto& item : value) joined += (joined.empty() ? "" : " ") + scalar_text(item);
    out.emplace_back(name, joined);
  }
  return true;
}

}  // namespace

Manifest read_manifest(const std::string& path) {
  Manifest result;
  const std::string text = read_file(path, 16u << 20);
  const auto damaged = [&](std::uint64_t line) {
    return damaged_error({path, line}, "not a JSON object", "the manifest that `stoat sim` wrote",
                         "run `stoat sim` again");
  };
  try {
    nlohmann::ordered_json manifest = nlohmann::ordered_json::parse(text);
    if (!manifest.is_object()) throw damaged(1);
    const auto notes = manifest.find("notes");
    if (notes != manifest.end() && notes->is_array()) {
      for (const auto& note : *notes) result.notes.push_back(scalar_text(note));
      manifest.erase(notes);
    }
    if (!flatten(manifest, "", 0, result.entries)) throw damaged(1);
  } catch (const nlohmann::json::parse_error& error) {
    const auto end = text.begin() + static_cast<std::ptrdiff_t>(std::min(error.byte, text.size()));
    throw damaged(1 + static_cast<std::uint64_t>(std::count(text.begin(), end, '\n')));
  }
  return result;
}

}  // namespace stoat::sim
