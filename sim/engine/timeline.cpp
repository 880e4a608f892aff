// See timeline.h. Times are microseconds with six digits: whole picoseconds.
#include "sim/engine/timeline.h"

#include <algorithm>
#include <set>
#include <utility>

#include "models/error.h"

namespace stoat::sim {
namespace {

constexpr const char* kTrackNames[] = {
    "score lanes", "exponential lanes", "select comparators", "gather lanes", "requests K",
    "requests V",  "requests spill",    "requests append",    "refresh",      "bank"};
constexpr const char* kEventNames[] = {"tile",  "tile",  "tile",  "tile",    "bytes",
                                       "bytes", "bytes", "bytes", "refresh", "row"};

std::string microseconds(Picoseconds t) { return decimal(static_cast<Int128>(t.count()), 6); }

std::uint32_t thread_of(Timeline::Track track, std::uint32_t bank) {
  return static_cast<std::uint32_t>(track) + bank + 1;
}

std::string metadata(const char* kind, std::uint32_t process, std::uint32_t thread,
                     const std::string& name) {
  return "{\"ph\":\"M\",\"name\":\"" + std::string(kind) + "\",\"pid\":" + std::to_string(process) +
         ",\"tid\":" + std::to_string(thread) + ",\"args\":{\"name\":\"" + name + "\"}}";
}

}  // namespace

void Timeline::push(const Event& event) {
  if (events_.size() >= limit_) {
    throw resource_error(
        {"--timeline"},
        "more than " + std::to_string(limit_) + " events by " + microseconds(event.begin) + " us",
        "a timeline of at most that many",
        "show less (--layers A:B, --steps A:B, a shorter trace) or raise "
        "--timeline-limit");
  }
  events_.push_back(event);
}

void Timeline::add(std::uint32_t engine, Track track, Picoseconds begin, Picoseconds end,
                   std::uint64_t number, std::uint32_t bank) {
  push({begin, std::max(begin, end), number, engine, bank, track, false});
}

void Timeline::queue(std::uint32_t engine, Picoseconds at, std::uint32_t tiles) {
  push({at, at, tiles, engine, 0, Track::kScore, true});
}

std::string Timeline::json(std::uint32_t engines_per_head) const {
  std::string text = "{\"displayTimeUnit\":\"ns\",\"traceEvents\":[\n";
  std::set<std::uint32_t> engines;
  std::set<std::pair<std::uint32_t, std::uint32_t>> threads;
  for (const Event& event : events_) {
    const std::uint32_t thread = thread_of(event.track, event.bank);
    const auto track = static_cast<std::size_t>(event.track);
    if (engines.insert(event.engine).second) {
      text += metadata("process_name", event.engine, 0,
                       "engine " + std::to_string(event.engine) + ", KV head " +
                           std::to_string(event.engine / engines_per_head)) +
              ",\n";
    }
    if (!event.counter && threads.insert({event.engine, thread}).second) {
      std::string name = kTrackNames[track];
      if (event.track == Track::kBanks) name += " " + std::to_string(event.bank);
      text += metadata("thread_name", event.engine, thread, name) + ",\n";
    }
    const std::string head =
        "\"pid\":" + std::to_string(event.engine) + ",\"ts\":" + microseconds(event.begin);
    const std::string number = std::to_string(event.number);
    if (event.counter) {
      text += "{\"ph\":\"C\",\"name\":\"queue score to select\"," + head +
              ",\"args\":{\"tiles\":" + number + "}},\n";
    } else {
      text += "{\"ph\":\"X\",\"name\":\"" + std::string(kEventNames[track]) + " " + number + "\"," +
              head + ",\"tid\":" + std::to_string(thread) +
              ",\"dur\":" + microseconds(event.end - event.begin) + "},\n";
    }
  }
  text += metadata("trace_end", 0, 0, "stoat") + "\n]}\n";
  return text;
}

}  // namespace stoat::sim
