// Where the shipped tables and models lie (the folder models/ of the source tree, or
// share/stoat/models once installed).
#pragma once

#include <string>
#include <string_view>

namespace stoat {

// Full path of a shipped file or folder, e.g. data_path("energy/jouppi_7nm.csv"). Looked up in this
// order: $STOAT_DATA, <program>/../share/stoat/models, the source tree this was built from. Throws
// Error (usage) naming all three places.
std::string data_path(std::string_view relative);

// The folder of the running program ("/usr/bin"), for finding sister programs.
std::string program_folder();

}  // namespace stoat
