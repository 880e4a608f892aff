// A heap of candidate pairs over a linked list: n log n, so a piece of a megabyte is no problem.
#include "models/llm/bpe.h"

#include <queue>
#include <tuple>

namespace stoat {

bool Bpe::add_token(std::string bytes, std::int32_t id) {
  if (!bytes_.emplace(id, bytes).second) return false;
  if (bytes.size() == 1) byte_ids_[static_cast<unsigned char>(bytes[0])] = id;
  return ids_.emplace(std::move(bytes), id).second;
}

bool Bpe::add_merge(const std::string& left, const std::string& right) {
  const std::int32_t a = find(left), b = find(right), both = find(left + right);
  if (a < 0 || b < 0 || both < 0) return false;
  merges_.emplace(pair_key(a, b), Merge{static_cast<std::uint32_t>(merges_.size()), both});
  return true;
}

std::int32_t Bpe::find(const std::string& bytes) const {
  const auto found = ids_.find(bytes);
  return found == ids_.end() ? -1 : found->second;
}

const std::string* Bpe::bytes_of(std::int32_t id) const {
  const auto found = bytes_.find(id);
  return found == bytes_.end() ? nullptr : &found->second;
}

const Bpe::Merge* Bpe::merge_of(std::int32_t left, std::int32_t right) const {
  const auto found = merges_.find(pair_key(left, right));
  return found == merges_.end() ? nullptr : &found->second;
}

bool Bpe::encode(std::string_view piece, std::vector<std::int32_t>& out) const {
  if (ignore_merges_) {
    if (const std::int32_t whole = find(std::string(piece)); whole >= 0) {
      out.push_back(whole);
      return true;
    }
  }
  struct Symbol {
    std::int32_t id;
    std::int32_t before, after;  // indices, -1 at the ends
  };
  std::vector<Symbol> symbols(piece.size());
  const auto count = static_cast<std::int32_t>(piece.size());
  for (std::int32_t i = 0; i < count; ++i) {
    const std::int32_t id = byte_ids_[static_cast<unsigned char>(piece[i])];
    if (id < 0) return false;
    symbols[i] = {id, i - 1, i + 1 < count ? i + 1 : -1};
  }
  using Candidate = std::tuple<std::uint32_t, std::int32_t, std::int32_t,
                               std::int32_t>;  // rank, place, left, right id
  std::priority_queue<Candidate, std::vector<Candidate>, std::greater<>> heap;
  const auto propose = [&](std::int32_t at) {
    if (at < 0 || symbols[at].after < 0) return;
    const std::int32_t right = symbols[symbols[at].after].id;
    if (const Merge* m = merge_of(symbols[at].id, right))
      heap.emplace(m->rank, at, symbols[at].id, right);
  };
  for (std::int32_t i = 0; i < count; ++i) propose(i);
  while (!heap.empty()) {
    const auto [rank, at, left, right] = heap.top();
    heap.pop();
    Symbol& symbol = symbols[at];
    if (symbol.id != left || symbol.after < 0 || symbols[symbol.after].id != right)
      continue;  // outdated
    Symbol& gone = symbols[symbol.after];
    symbol.id = merge_of(left, right)->result;
    symbol.after = gone.after;
    gone.id = -1;
    if (symbol.after >= 0) symbols[symbol.after].before = at;
    propose(symbol.before);
    propose(at);
  }
  for (std::int32_t i = 0; i >= 0 && i < count; i = symbols[i].after) out.push_back(symbols[i].id);
  return true;
}

}  // namespace stoat
