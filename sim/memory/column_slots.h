// Which moments of a pseudo-channel's column bus are still free, as bitmaps over time.
//
// A column command at t blocks (t - tCCD, t + tCCD) for others: tCCD_S within its stack ID, tCCD_L
// within its bank group (tCCD_L_WR from write to write), tCCD_R for other stack IDs. Later requests
// may fill gaps between earlier ones (that is how two bank groups share the bus), but never move
// them. Time is in ticks of half a command cycle. Where tCCD_L leaves gaps too short for another
// burst (DDR5: less than two tCCD_S), commands keep to a grid of tCCD_S.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <vector>

#include "models/dram/standard.h"
#include "sim/memory/tick_timing.h"

namespace stoat::sim {

class ColumnSlots {
 public:
  explicit ColumnSlots(const DramStandard& standard)
      : stacks_(standard.stack_ids),
        groups_(standard.bank_groups),
        lanes_(stacks_ + 2 * stacks_ * groups_),
        reach_short_(2 * standard.ccd_short - 1),
        reach_long_(2 * standard.ccd_long - 1),
        reach_write_(2 * standard.ccd_write_long - 1),
        reach_stack_(2 * standard.ccd_stack - 1),
        grid_(standard.ccd_long > standard.ccd_short && standard.ccd_long < 2 * standard.ccd_short
                  ? Tick{2} * standard.ccd_short
                  : 0),
        words_(kFirstWords * lanes_) {}

  // The first tick >= from at which a column command of this bank group fits. `from` must not lie
  // before the last forget_before().
  Tick first_free(Tick from, std::uint32_t stack, std::uint32_t group, bool write) const {
    if (grid_ == 0) return any_free(from, stack, group, write);
    for (;;) {
      from = (from + grid_ - 1) / grid_ * grid_;
      const Tick at = any_free(from, stack, group, write);
      if (at == from) return at;
      from = at;
    }
  }

  void take(Tick at, std::uint32_t stack, std::uint32_t group, bool write) {
    const Tick reach = std::max({reach_long_, reach_stack_, write ? reach_write_ : 0});
    if ((at + reach) >> 6 >= base_word_ + capacity()) grow((at + reach) >> 6);
    last_word_ = std::max(last_word_, (at + reach) >> 6);
    mark(stacks_ + stack * groups_ + group, at, reach_long_);
    if (write) mark(stacks_ + (stacks_ + stack) * groups_ + group, at, reach_write_);
    for (std::uint32_t s = 0; s < stacks_; ++s) {
      mark(s, at, s == stack ? reach_short_ : reach_stack_);
    }
  }

  // No later question will be about ticks before t.
  void forget_before(Tick t) {
    const std::uint64_t word = t >> 6;
    if (word <= base_word_) return;
    const std::uint64_t end = std::min(word, last_word_ + 1);
    for (std::uint64_t w = base_word_; w < end; ++w) {
      std::fill_n(cells(w), lanes_, std::uint64_t{0});
    }
    base_word_ = word;
    last_word_ = std::max(last_word_, word);
  }

 private:
  static constexpr std::uint64_t kFirstWords = 64;

  Tick any_free(Tick from, std::uint32_t stack, std::uint32_t group, bool write) const {
    std::uint64_t word = from >> 6;
    if (word > last_word_) return from;
    const std::uint32_t other = stacks_ + stack * groups_ + group;
    const std::uint32_t written = write ? other + stacks_ * groups_ : other;
    const std::uint64_t* cell = cells(word);
    std::uint64_t blocked =
        cell[stack] | cell[other] | cell[written] | ((std::uint64_t{1} << (from & 63)) - 1);
    while (blocked == ~std::uint64_t{0}) {
      if (++word > last_word_) return word << 6;
      cell = cells(word);
      blocked = cell[stack] | cell[other] | cell[written];
    }
    return (word << 6) + static_cast<Tick>(std::countr_one(blocked));
  }
  std::uint64_t capacity() const { return capacity_mask_ + 1; }
  std::uint64_t* cells(std::uint64_t word) { return &words_[(word & capacity_mask_) * lanes_]; }
  const std::uint64_t* cells(std::uint64_t word) const {
    return &words_[(word & capacity_mask_) * lanes_];
  }

  // Blocks [at - reach, at + reach] in one lane.
  void mark(std::uint32_t lane, Tick at, Tick reach) {
    const Tick low = std::max(at, (base_word_ << 6) + reach) - reach;
    const Tick high = at + reach;
    const std::uint64_t first = low >> 6, last = high >> 6;
    const std::uint64_t head = ~std::uint64_t{0} << (low & 63);
    const std::uint64_t tail = ~std::uint64_t{0} >> (63 - (high & 63));
    if (first == last) {
      cells(first)[lane] |= head & tail;
      return;
    }
    cells(first)[lane] |= head;
    for (std::uint64_t word = first + 1; word < last; ++word) cells(word)[lane] = ~std::uint64_t{0};
    cells(last)[lane] |= tail;
  }

  void grow(std::uint64_t word) {
    std::uint64_t size = capacity();
    while (word - base_word_ >= size) size *= 2;
    std::vector<std::uint64_t> bigger(size * lanes_);
    for (std::uint64_t w = base_word_; w <= last_word_; ++w) {
      std::copy_n(cells(w), lanes_, &bigger[(w & (size - 1)) * lanes_]);
    }
    words_ = std::move(bigger);
    capacity_mask_ = size - 1;
  }

  std::uint32_t stacks_, groups_, lanes_;
  Tick reach_short_, reach_long_, reach_write_, reach_stack_;
  Tick grid_;                         // 0: any tick
  std::vector<std::uint64_t> words_;  // [word & mask, lane]; beyond last_word_ all zero
  std::uint64_t capacity_mask_ = kFirstWords - 1;
  std::uint64_t base_word_ = 0;
  std::uint64_t last_word_ = 0;
};

}  // namespace stoat::sim
