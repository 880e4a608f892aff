// Which build this is. The values are generated at configure and build time.
#pragma once

#include <string_view>

namespace stoat {

std::string_view tool_version();  // "0.1.0"
std::string_view build_id();  // `git describe --always --dirty`, or "unknown" outside a checkout

}  // namespace stoat
