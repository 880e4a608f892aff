# Script: writes OUTPUT (a .cpp) with TOOL_VERSION and git's description of SOURCE_DIR, only if it changed.
set(build_id "")
find_program(git_program git)
if(git_program AND EXISTS ${SOURCE_DIR}/.git)
  execute_process(
    COMMAND ${git_program} -c safe.directory=* describe --always --dirty --abbrev=12 --tags
    WORKING_DIRECTORY ${SOURCE_DIR} OUTPUT_VARIABLE build_id ERROR_QUIET
    OUTPUT_STRIP_TRAILING_WHITESPACE)
endif()
if(build_id STREQUAL "")
  set(build_id "unknown")
endif()
set(text "// Written by scripts/cmake/write_version.cmake; do not edit.
#include \"models/version.h\"

namespace stoat {
std::string_view tool_version() { return \"${TOOL_VERSION}\"; }
std::string_view build_id() { return \"${build_id}\"; }
}  // namespace stoat
")
if(EXISTS ${OUTPUT})
  file(READ ${OUTPUT} before)
endif()
if(NOT "${before}" STREQUAL "${text}")
  file(WRITE ${OUTPUT} "${text}")
endif()
