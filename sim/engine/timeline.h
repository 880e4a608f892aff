// What happened when, for people who look: the trace-event JSON that Perfetto and chrome://tracing
// open.
//
// A process is an engine, a thread one of its units, a queue, a bank or the refresh of its
// pseudo-channel. Bounded: beyond `limit` events the run is refused with what would make it
// smaller.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "models/units.h"

namespace stoat::sim {

class Timeline {
 public:
  enum class Track : std::uint8_t {
    kScore,
    kExponential,
    kSelect,
    kGather,
    kRequestK,
    kRequestV,
    kRequestSpill,
    kRequestAppend,
    kRefresh,
    kBanks  // and the bank's number
  };
  explicit Timeline(std::uint64_t limit) : limit_(limit) {}

  // A stretch of time on a track. `number`: tile, row of a bank, bytes of a request.
  void add(std::uint32_t engine, Track track, Picoseconds begin, Picoseconds end,
           std::uint64_t number, std::uint32_t bank = 0);
  // Tiles between score and the exponential lanes from now on.
  void queue(std::uint32_t engine, Picoseconds at, std::uint32_t tiles);
  std::uint64_t size() const { return events_.size(); }
  // Whole JSON text. `engines_per_head` names the processes.
  std::string json(std::uint32_t engines_per_head) const;

 private:
  struct Event {
    Picoseconds begin, end;
    std::uint64_t number;
    std::uint32_t engine, bank;
    Track track;
    bool counter;
  };
  void push(const Event& event);

  std::uint64_t limit_;
  std::vector<Event> events_;
};

}  // namespace stoat::sim
