// nlohmann's DOM parser with a callback that refuses what it accepts silently.
#include "models/llm/json_read.h"

#include <cmath>
#include <nlohmann/json.hpp>
#include <unordered_set>
#include <vector>

#include "models/error.h"
#include "models/files.h"

namespace stoat {
namespace {

using nlohmann::json;

Place place_of(std::string_view text, const std::string& file, std::uint64_t first_line,
               std::size_t byte) {
  Place place{file, first_line, 1};
  for (std::size_t i = 0; i < byte && i < text.size(); ++i) {
    ++place.column;
    if (text[i] == '\n') {
      ++place.line;
      place.column = 1;
    }
  }
  return place;
}

// Refuses duplicate keys and deep nesting while the parser walks.
class Guard {
 public:
  explicit Guard(Place place) : place_(std::move(place)) {}

  bool operator()(int depth, json::parse_event_t event, json& parsed) {
    switch (event) {
      case json::parse_event_t::object_start:
      case json::parse_event_t::array_start:
        if (depth >= kJsonDepth) {
          throw damaged_error(place_,
                              "JSON nested deeper than " + std::to_string(kJsonDepth) + " levels",
                              "a flat description", "use the file as it was published");
        }
        if (event == json::parse_event_t::object_start) keys_.emplace_back();
        break;
      case json::parse_event_t::object_end:
        keys_.pop_back();
        break;
      case json::parse_event_t::key:
        if (!keys_.back().insert(parsed.get<std::string>()).second) {
          throw damaged_error(place_,
                              "key '" + parsed.get<std::string>() + "' appears twice in one object",
                              "each key once", "remove one of them");
        }
        break;
      default:
        break;
    }
    return true;
  }

 private:
  Place place_;  // of the whole text
  std::vector<std::unordered_set<std::string>> keys_;
};

[[noreturn]] void refuse(const json& object, const std::string& key, const std::string& expected,
                         const std::string& file, const std::string& where) {
  const auto member = object.find(key);
  if (member == object.end()) {
    std::vector<std::string> keys;
    for (const auto& item : object.items()) keys.push_back(item.key());
    const std::string near = nearest_name(key, keys);  // misspelt?
    throw usage_error({file}, "key '" + where + key + "' is missing", expected,
                      near.empty() ? "" : "the file has '" + near + "'");
  }
  std::string found = member->dump(-1, ' ', false, json::error_handler_t::replace);
  if (found.size() > 60) found = found.substr(0, 60) + "...";
  throw usage_error({file}, "key '" + where + key + "' is " + found, expected);
}

}  // namespace

json parse_json(std::string_view text, const std::string& file, std::uint64_t first_line) {
  Guard guard({file, first_line == 1 ? 0 : first_line});
  try {
    return json::parse(text.begin(), text.end(),
                       [&](int depth, json::parse_event_t event, json& parsed) {
                         return guard(depth, event, parsed);
                       });
  } catch (const json::parse_error& e) {
    throw damaged_error(place_of(text, file, first_line, e.byte > 0 ? e.byte - 1 : 0),
                        "not JSON here", "valid UTF-8 JSON", "fetch or write the file again");
  } catch (const json::exception& e) {
    throw damaged_error({file}, std::string("not JSON: ") + e.what(), "valid UTF-8 JSON");
  }
}

json read_json_file(const std::string& path, std::uint64_t limit) {
  return parse_json(read_file(path, limit), path);
}

bool json_has(const json& object, const std::string& key) {
  const auto member = object.find(key);
  return member != object.end() && !member->is_null();
}

std::uint64_t json_unsigned(const json& object, const std::string& key, std::uint64_t most,
                            const std::string& file, const std::string& where) {
  const auto member = object.find(key);
  if (member == object.end() || !member->is_number_unsigned() ||
      member->get<std::uint64_t>() > most) {
    refuse(object, key, "a whole number from 0 to " + std::to_string(most), file, where);
  }
  return member->get<std::uint64_t>();
}

double json_number(const json& object, const std::string& key, const std::string& file,
                   const std::string& where) {
  const auto member = object.find(key);
  if (member == object.end() || !member->is_number() || !std::isfinite(member->get<double>())) {
    refuse(object, key, "a number", file, where);
  }
  return member->get<double>();
}

std::string json_text(const json& object, const std::string& key, const std::string& file,
                      const std::string& where) {
  const auto member = object.find(key);
  if (member == object.end() || !member->is_string()) refuse(object, key, "a text", file, where);
  return member->get<std::string>();
}

bool json_bool(const json& object, const std::string& key, bool otherwise, const std::string& file,
               const std::string& where) {
  if (!json_has(object, key)) return otherwise;
  if (!object.at(key).is_boolean()) refuse(object, key, "true or false", file, where);
  return object.at(key).get<bool>();
}

}  // namespace stoat
