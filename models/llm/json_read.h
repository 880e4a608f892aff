// Strict JSON reading for files from outside: duplicate keys, deep nesting and bad UTF-8 are errors
// with line and column.
//
// Every failure is a stoat::Error (damaged); no exception of the JSON library leaves these
// functions.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

namespace stoat {

inline constexpr int kJsonDepth = 32;

// Parses one whole JSON value. `file` names the text in messages, `first_line` the line in it where
// the text begins (a line of JSON lines).
nlohmann::json parse_json(std::string_view text, const std::string& file,
                          std::uint64_t first_line = 1);
nlohmann::json read_json_file(const std::string& path, std::uint64_t limit);

// Typed members of an object; the error names file and key. `where` prefixes the key
// ("rope_scaling.").
std::uint64_t json_unsigned(const nlohmann::json& object, const std::string& key,
                            std::uint64_t most, const std::string& file,
                            const std::string& where = {});
double json_number(const nlohmann::json& object, const std::string& key, const std::string& file,
                   const std::string& where = {});
std::string json_text(const nlohmann::json& object, const std::string& key, const std::string& file,
                      const std::string& where = {});
bool json_bool(const nlohmann::json& object, const std::string& key, bool otherwise,
               const std::string& file, const std::string& where = {});
// The member is there and is not null.
bool json_has(const nlohmann::json& object, const std::string& key);

}  // namespace stoat
