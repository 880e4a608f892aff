// A memory that knows b_transport only: 10 ns a burst, one transaction after the other.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "sim/engine/memory_model.h"

namespace stoat::sim {

std::unique_ptr<MemoryModel> make_blocking_memory(const std::string& name,
                                                  const DramStandard& standard, std::uint32_t index,
                                                  const DesignPoint& point);

}  // namespace stoat::sim
