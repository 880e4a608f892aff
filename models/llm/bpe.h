// Byte-pair merging: the bytes of a piece become tokens, then the pair of lowest rank (leftmost
// first) merges until none is left.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace stoat {

class Bpe {
 public:
  Bpe() { byte_ids_.fill(-1); }

  // Token `id` stands for these raw bytes. False when bytes or id are taken already.
  bool add_token(std::string bytes, std::int32_t id);
  // Merge of two tokens (as bytes); ranks are given in order of the calls. False when a side or the
  // result is no token.
  bool add_merge(const std::string& left, const std::string& right);
  void set_ignore_merges(bool on) {
    ignore_merges_ = on;
  }  // a piece that is a token is taken whole

  // Appends the tokens of a piece. Returns false (nothing appended) when a byte has no token.
  bool encode(std::string_view piece, std::vector<std::int32_t>& out) const;

  std::int32_t find(const std::string& bytes) const;   // -1 when unknown
  const std::string* bytes_of(std::int32_t id) const;  // null when unknown
  std::size_t size() const { return ids_.size(); }

 private:
  struct Merge {
    std::uint32_t rank;
    std::int32_t result;
  };
  static std::uint64_t pair_key(std::int32_t left, std::int32_t right) {
    return static_cast<std::uint64_t>(static_cast<std::uint32_t>(left)) << 32 |
           static_cast<std::uint32_t>(right);
  }
  const Merge* merge_of(std::int32_t left, std::int32_t right) const;

  std::unordered_map<std::string, std::int32_t> ids_;
  std::unordered_map<std::int32_t, std::string> bytes_;
  std::unordered_map<std::uint64_t, Merge> merges_;
  std::array<std::int32_t, 256> byte_ids_{};
  bool ignore_merges_ = false;
};

}  // namespace stoat
