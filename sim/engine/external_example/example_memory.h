// A small external memory: one burst every `interval`, each `latency` after its turn, no rows.
// Shows how a TLM-2.0 memory with four phases is bound behind AtBridge; the tests know its closed
// form.
#pragma once

#include <memory>
#include <string>

#include "models/units.h"
#include "sim/engine/memory_model.h"

namespace stoat::sim {

inline constexpr Picoseconds kExampleLatency{50000};

// The interval is the standard's own burst time.
std::unique_ptr<MemoryModel> make_external_memory(const std::string& name,
                                                  const DramStandard& standard, std::uint32_t index,
                                                  const DesignPoint& point);

}  // namespace stoat::sim
