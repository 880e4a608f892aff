// `stoat sim --compare A B`: two result folders side by side.
#pragma once

#include <string>

namespace stoat::sim {

// Text for people, or JSON: what differs in the designs, then for each datapath of both the numbers
// of A, of B and B / A. Throws Error: a folder without a finished run, no datapath in both.
std::string compare_results(const std::string& a, const std::string& b, bool json);

}  // namespace stoat::sim
