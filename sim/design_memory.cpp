// The fields of the memory behind the engines: address map, model and controller.
#include "sim/design_makers.h"

namespace stoat::sim {
namespace {

constexpr Word<MemoryKind> kMemories[] = {{"first_ready", MemoryKind::kFirstReady},
                                          {"reserved", MemoryKind::kReserved}};
constexpr Word<PageRule> kPageRules[] = {
    {"open", PageRule::kOpen}, {"closed", PageRule::kClosed}, {"timeout", PageRule::kTimeout}};
constexpr Word<bool> kQueues[] = {{"pseudo_channel", false}, {"channel", true}};
constexpr Word<bool> kRefreshed[] = {{"all_bank", false}, {"per_bank", true}};
constexpr Word<bool> kStaggered[] = {{"together", false}, {"staggered", true}};

DesignField map_field() {
  return {"memory.map",
          [](DesignPoint& p, Text text, Self self, At at) {
            if (text.empty() || text.size() > 200) refuse(text, self, at);
            p.map = text;
          },
          [](const DesignPoint& p) { return p.map; },
          "standard, or an address order such as 'column:256 bank_group column bank stack row'"};
}

}  // namespace

// The memory behind the engines.
void add_memory_fields(std::vector<DesignField>& fields) {
  using P = DesignPoint;
  constexpr const char* kTime = "a time with its unit up to 1 ms, such as '200 ns'; 0 ns: never";
  constexpr const char* kEntries = "a whole number from 0 to 65536; below memory.controller.queue";
  for (const DesignField& field : {
           map_field(),
           word_field<&P::memory, kMemories>("memory.model", "first_ready or reserved"),
           count_field<&P::queue_bursts>("memory.controller.queue"),
           word_field<&P::shared_queue, kQueues>("memory.controller.queue_of",
                                                 "pseudo_channel or channel"),
           count_field<&P::row_hit_cap, 0>("memory.controller.row_hit_cap",
                                           "a whole number from 0 (no cap) to 65536"),
           word_field<&P::page_rule, kPageRules>("memory.controller.page_policy",
                                                 "open, closed or timeout"),
           time_field<&P::page_timeout>("memory.controller.page_timeout", kTime),
           word_field<&P::refresh_per_bank, kRefreshed>("memory.controller.refresh",
                                                        "all_bank or per_bank"),
           word_field<&P::refresh_staggered, kStaggered>("memory.controller.refresh_order",
                                                         "together or staggered"),
           count_field<&P::write_high>("memory.controller.write_high"),
           count_field<&P::write_low, 0>("memory.controller.write_low", kEntries),
           time_field<&P::power_down_after>("memory.controller.power_down_after", kTime),
       }) {
    fields.push_back(field);
  }
}

}  // namespace stoat::sim
