// Writing and merging shard files.
#include "sim/sweep/shards.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "models/error.h"
#include "models/files.h"
#include "models/hash.h"

namespace stoat::sim {
namespace {

using Json = nlohmann::json;
constexpr int kShardVersion = 1;

std::string sum_of(const std::string& json) {
  static constexpr char kDigits[] = "0123456789abcdef";
  const std::uint32_t sum = crc32c(json.data(), json.size());
  std::string text;
  for (int shift = 28; shift >= 0; shift -= 4) text += kDigits[(sum >> shift) & 15U];
  return text;
}

void take_result(const std::string& file, const Json& json, ShardContents& all) {
  const auto key = json.at("key").get<std::string>();
  if (json.contains("body")) {
    const auto body = json.at("body").get<std::string>();
    const auto [found, fresh] = all.results.emplace(key, body);
    if (!fresh) {
      ++all.duplicates;
      if (found->second != body) {
        throw damaged_error(Place{file}, "point " + key + " has another result in another shard",
                            "equal results for equal points",
                            "these shards come from different programs: remove those of one");
      }
    }
    return;
  }
  const StoredFailure failure{key, json.at("failed").get<std::string>(),
                              json.at("attempts").get<unsigned>()};
  const auto [found, fresh] = all.failures.emplace(key, failure);
  if (!fresh && failure.reason < found->second.reason) found->second = failure;
}

void read_shard(const std::string& path, ShardContents& all) {
  const std::string name = std::filesystem::path(path).filename().string();
  const std::string text = read_file(path, std::uint64_t{4} << 30);
  std::uint64_t number = 0;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = text.find('\n', begin);
    if (end == std::string::npos) break;  // cut short: its writer died
    const std::string line = text.substr(begin, end - begin);
    begin = end + 1;
    ++number;
    const bool whole =
        line.size() > 9 && line[8] == ' ' && sum_of(line.substr(9)) == line.substr(0, 8);
    if (!whole) {
      all.damage.push_back(name + ": line " + std::to_string(number) +
                           " is damaged; its point is run again");
      continue;
    }
    try {
      const Json json = Json::parse(line.substr(9));
      if (json.contains("format")) {
        if (json.at("format") != "stoat-shard" || json.at("version") != kShardVersion) {
          throw damaged_error(Place{path}, "a shard of version " + json.at("version").dump(),
                              "version " + std::to_string(kShardVersion));
        }
        continue;
      }
      ++all.lines;
      take_result(path, json, all);
    } catch (const Json::exception& error) {
      all.damage.push_back(name + ": line " + std::to_string(number) + ": " + error.what());
    }
  }
}

}  // namespace

ShardNumber ShardNumber::parse(const std::string& text) {
  ShardNumber shard;
  const char* const end = text.data() + text.size();
  const auto [slash, first] = std::from_chars(text.data(), end, shard.index);
  bool good = first == std::errc{} && slash != end && *slash == '/';
  if (good) {
    const auto [rest, second] = std::from_chars(slash + 1, end, shard.count);
    good = second == std::errc{} && rest == end && shard.count >= 1 && shard.index < shard.count;
  }
  if (!good) {
    throw usage_error({}, "--shard is '" + text + "'", "I/N with 0 <= I < N, such as 0/16");
  }
  return shard;
}

ShardWriter::ShardWriter(const std::string& folder, ShardNumber shard) {
  make_folders(folder);
  std::array<char, 256> host{};
  if (::gethostname(host.data(), host.size() - 1) != 0) host[0] = '\0';
  const std::string stem = folder + "/" + std::to_string(shard.index) + "-of-" +
                           std::to_string(shard.count) + "." + host.data() + "." +
                           std::to_string(::getpid());
  for (int n = 0; file_ < 0; ++n) {
    path_ = stem + "." + std::to_string(n) + ".jsonl";
    file_ = ::open(path_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0644);
    if (file_ < 0 && errno != EEXIST) {
      throw resource_error(Place{path_},
                           std::string("cannot be written (") + std::strerror(errno) + ")",
                           "a shared folder that can be written");
    }
  }
  line(Json{{"format", "stoat-shard"}, {"version", kShardVersion}}.dump());
}

ShardWriter::~ShardWriter() { ::close(file_); }

void ShardWriter::line(const std::string& json) {
  const std::string text = sum_of(json) + " " + json + "\n";
  std::size_t done = 0;
  while (done < text.size()) {
    const ssize_t n = ::write(file_, text.data() + done, text.size() - done);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) break;
    done += static_cast<std::size_t>(n);
  }
  if (done < text.size() || ::fsync(file_) != 0) {
    const std::string reason = std::strerror(errno);
    if (::ftruncate(file_, static_cast<off_t>(bytes_)) != 0) {
      // A line cut short is ignored by every reader.
    }
    throw resource_error(Place{path_},
                         std::to_string(text.size()) + " bytes do not fit (" + reason + ")",
                         "a disk with room", "the point runs again elsewhere");
  }
  bytes_ += text.size();
}

void ShardWriter::result(const std::string& key, const std::string& body) {
  line(Json{{"key", key}, {"body", body}}.dump());
}

void ShardWriter::failure(const StoredFailure& failure) {
  line(Json{{"key", failure.key}, {"failed", failure.reason}, {"attempts", failure.attempts}}.dump(
      -1, ' ', false, Json::error_handler_t::replace));
}

ShardContents read_shards(const std::string& folder) {
  ShardContents all;
  std::error_code failure;
  if (!std::filesystem::is_directory(folder, failure)) return all;
  std::vector<std::string> paths;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    if (entry.path().extension() == ".jsonl") paths.push_back(entry.path().string());
  }
  std::sort(paths.begin(), paths.end());
  for (const std::string& path : paths) {
    ++all.files;
    read_shard(path, all);
  }
  for (const auto& [key, body] : all.results) all.failures.erase(key);
  return all;
}

}  // namespace stoat::sim
