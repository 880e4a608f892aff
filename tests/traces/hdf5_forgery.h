// Changes finished trace files through the HDF5 library, for tests of readers that must not believe
// them.
#pragma once

#include <hdf5.h>

#include <cstdint>
#include <string>

#include "traces/trace.h"

namespace stoat::forgery {

void set_u8(const std::string& file, const std::string& dataset, std::uint64_t at,
            std::uint8_t value);
void set_u16(const std::string& file, const std::string& dataset, std::uint64_t at,
             std::uint16_t value);
void set_u32(const std::string& file, const std::string& dataset, std::uint64_t at,
             std::uint32_t value);
void set_u64(const std::string& file, const std::string& dataset, std::uint64_t at,
             std::uint64_t value);
void resize(const std::string& file, const std::string& dataset, std::uint64_t rows);
void remove_link(const std::string& file, const std::string& path);
void remove_attribute(const std::string& file, const std::string& name);
void set_attribute(const std::string& file, const std::string& name, std::uint32_t value);
// Makes /checks and content_hash agree with what the file now holds, as a careful liar would.
void recompute_hashes(const std::string& file, const TraceHeader& header);

}  // namespace stoat::forgery
