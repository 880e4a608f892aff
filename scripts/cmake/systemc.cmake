# SystemC::systemc. Debian ships a pkg-config file only. The library exports a symbol named after the
# C++ level it was built with (C++17 in Debian 12 and 13), and callers must ask for the same one; the
# documented macro SC_CPLUSPLUS selects it, so the rest of the project can be C++20. Here the levels are
# tried by linking a one-line program: the caller's own first, then C++17.
include(CheckCXXSourceCompiles)

pkg_check_modules(stoat_systemc IMPORTED_TARGET systemc)
if(NOT stoat_systemc_FOUND)
  message(FATAL_ERROR "SystemC was not found (pkg-config systemc). Install libsystemc-dev: ./scripts/install-deps.sh")
endif()

function(_stoat_systemc_links DEFINITION OUT)
  set(CMAKE_REQUIRED_LIBRARIES PkgConfig::stoat_systemc Threads::Threads)
  set(CMAKE_REQUIRED_DEFINITIONS ${DEFINITION})
  set(CMAKE_REQUIRED_QUIET ON)
  check_cxx_source_compiles(
    "#include <systemc>\n#include <tlm>\nint sc_main(int, char**) { return sc_core::sc_time_stamp() != sc_core::SC_ZERO_TIME; }"
    ${OUT})
  set(${OUT} ${${OUT}} PARENT_SCOPE)
endfunction()

add_library(SystemC::systemc INTERFACE IMPORTED GLOBAL)
target_link_libraries(SystemC::systemc INTERFACE PkgConfig::stoat_systemc Threads::Threads)
_stoat_systemc_links("" STOAT_SYSTEMC_LINKS_PLAIN)
if(NOT STOAT_SYSTEMC_LINKS_PLAIN)
  _stoat_systemc_links("-DSC_CPLUSPLUS=201703L" STOAT_SYSTEMC_LINKS_CXX17)
  if(NOT STOAT_SYSTEMC_LINKS_CXX17)
    message(FATAL_ERROR "SystemC ${stoat_systemc_VERSION} was found, but a C++20 program does not link with it, "
      "with or without SC_CPLUSPLUS=201703L: it was built for another C++ level. Use the distribution's "
      "libsystemc-dev or rebuild SystemC with -DCMAKE_CXX_STANDARD=17 or 20. Log: "
      "${CMAKE_BINARY_DIR}/CMakeFiles/CMakeError.log")
  endif()
  target_compile_definitions(SystemC::systemc INTERFACE SC_CPLUSPLUS=201703L)
endif()
