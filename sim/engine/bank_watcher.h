// Puts what the banks of a channel do onto a timeline.
#pragma once

#include <cstdint>
#include <vector>

#include "sim/engine/timeline.h"
#include "sim/memory/channel.h"

namespace stoat::sim {

// Rows of banks and refreshes of one channel, onto the timeline.
class BankWatcher final : public ChannelObserver {
 public:
  BankWatcher(Timeline& timeline, std::uint32_t first_engine, std::uint32_t pseudo_channels,
              std::uint32_t banks)
      : timeline_(timeline),
        first_(first_engine),
        banks_(banks),
        open_(std::size_t{pseudo_channels} * banks) {}

  void row_opened(std::uint32_t pseudo_channel, std::uint32_t bank, std::uint32_t row,
                  Picoseconds at) override {
    open_[pseudo_channel * banks_ + bank] = {true, row, at};
  }
  void row_closed(std::uint32_t pseudo_channel, std::uint32_t bank, Picoseconds at) override {
    Row& row = open_[pseudo_channel * banks_ + bank];
    if (!row.open) return;
    timeline_.add(first_ + pseudo_channel, Timeline::Track::kBanks, row.since, at, row.row, bank);
    row.open = false;
  }
  void refreshed(std::uint32_t pseudo_channel, Picoseconds begin, Picoseconds end) override {
    timeline_.add(first_ + pseudo_channel, Timeline::Track::kRefresh, begin, end, 0);
  }
  void finish(Picoseconds end) {
    for (std::uint32_t i = 0; i < open_.size(); ++i) row_closed(i / banks_, i % banks_, end);
  }

 private:
  struct Row {
    bool open = false;
    std::uint32_t row = 0;
    Picoseconds since{0};
  };
  Timeline& timeline_;
  std::uint32_t first_, banks_;
  std::vector<Row> open_;  // [pseudo_channels, banks]
};

}  // namespace stoat::sim
