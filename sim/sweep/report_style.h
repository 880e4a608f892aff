// The look of the report page: its style sheet, its script, and the installed plotly.js.
#pragma once

#include <string>
#include <string_view>

namespace stoat::sim {

std::string_view
report_style();  // CSS; colours are custom properties, one set each for light, dark and print
std::string_view report_script();  // draws figures as they come into sight; again for another
                                   // colour scheme, and for print

// The source of plotly.js from the distribution's package. `path` overrides the places that are
// searched. Throws Error (usage) naming the package when it is not there.
std::string plotly_source(const std::string& path = {});

}  // namespace stoat::sim
