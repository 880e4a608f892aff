# Every outside library, once, as an imported target. All of them are packages of the distribution
# (scripts/install-deps.sh installs them); nothing is fetched. With STOAT_PORTABLE the C libraries come
# from their .a files, so that programs marked PORTABLE need glibc only.
find_package(Threads REQUIRED)
find_package(PkgConfig REQUIRED)

macro(_stoat_find PACKAGE DEBIAN)
  find_package(${PACKAGE} ${ARGN} QUIET)
  if(NOT ${PACKAGE}_FOUND)
    message(FATAL_ERROR "${PACKAGE} was not found. Install ${DEBIAN}: ./scripts/install-deps.sh")
  endif()
endmacro()

# stoat_dep::NAME from a header and a library. STATIC takes the .a file in every build, otherwise that
# is up to STOAT_PORTABLE. ARCHIVES are the .a files a static library needs after itself.
function(_stoat_import NAME DEBIAN HEADER LIBRARY)
  cmake_parse_arguments(PARSE_ARGV 4 arg "STATIC" "" "HEADER_DIRS;LIB_DIRS;ARCHIVES")
  find_path(STOAT_${NAME}_INCLUDE ${HEADER} PATHS ${arg_HEADER_DIRS})
  mark_as_advanced(STOAT_${NAME}_INCLUDE)
  set(names ${LIBRARY})
  if(STOAT_PORTABLE OR arg_STATIC)
    list(TRANSFORM arg_ARCHIVES REPLACE "(.+)" "lib\\1.a")
    set(names lib${LIBRARY}.a ${arg_ARCHIVES})
  endif()
  add_library(stoat_dep::${NAME} INTERFACE IMPORTED GLOBAL)
  foreach(name IN LISTS names)
    find_library(STOAT_LIBRARY_${name} NAMES ${name} PATHS ${arg_LIB_DIRS})
    mark_as_advanced(STOAT_LIBRARY_${name})
    if(NOT STOAT_LIBRARY_${name} OR NOT STOAT_${NAME}_INCLUDE)
      message(FATAL_ERROR "${HEADER} or ${name} was not found. Install ${DEBIAN}: ./scripts/install-deps.sh")
    endif()
    target_link_libraries(stoat_dep::${NAME} INTERFACE ${STOAT_LIBRARY_${name}})
  endforeach()
  target_include_directories(stoat_dep::${NAME} INTERFACE ${STOAT_${NAME}_INCLUDE})
endfunction()

# --- header-only C++ ---------------------------------------------------------------------------------
_stoat_find(Eigen3 libeigen3-dev NO_MODULE)
target_compile_definitions(Eigen3::Eigen INTERFACE EIGEN_DONT_PARALLELIZE)
_stoat_find(nlohmann_json nlohmann-json3-dev)
_stoat_find(CLI11 libcli11-dev)
_stoat_find(fmt libfmt-dev)
_stoat_find(spdlog libspdlog-dev)
set_target_properties(spdlog::spdlog_header_only PROPERTIES
  INTERFACE_LINK_LIBRARIES "Threads::Threads;fmt::fmt-header-only"
  INTERFACE_COMPILE_DEFINITIONS "SPDLOG_FMT_EXTERNAL")
find_package(Boost 1.74 CONFIG QUIET)
if(NOT Boost_FOUND)
  message(FATAL_ERROR "Boost was not found. Install libboost-dev: ./scripts/install-deps.sh")
endif()
find_path(STOAT_fccp_INCLUDE libfccp/csv.h)
mark_as_advanced(STOAT_fccp_INCLUDE)
if(NOT STOAT_fccp_INCLUDE)
  message(FATAL_ERROR "libfccp/csv.h was not found. Install libfccp-dev: ./scripts/install-deps.sh")
endif()
add_library(stoat_dep::fccp INTERFACE IMPORTED GLOBAL)
target_include_directories(stoat_dep::fccp INTERFACE ${STOAT_fccp_INCLUDE})
target_link_libraries(stoat_dep::fccp INTERFACE Threads::Threads)

# --- compiled libraries ------------------------------------------------------------------------------
_stoat_import(yaml libyaml-cpp-dev yaml-cpp/yaml.h yaml-cpp)
add_library(yaml-cpp ALIAS stoat_dep::yaml)
_stoat_import(zlib zlib1g-dev zlib.h z)
_stoat_import(zstd libzstd-dev zstd.h zstd)
_stoat_import(deflate libdeflate-dev libdeflate.h deflate)
_stoat_import(xxhash libxxhash-dev xxhash.h xxhash)
_stoat_import(pcre2 libpcre2-dev pcre2.h pcre2-8)
target_compile_definitions(stoat_dep::pcre2 INTERFACE PCRE2_CODE_UNIT_WIDTH=8)
_stoat_import(sqlite3 libsqlite3-dev sqlite3.h sqlite3)
pkg_check_modules(stoat_hdf5 QUIET hdf5-serial hdf5)
# Static where that links: the shared one loads 35 others (curl, ldap, Kerberos) into every process. Debian
# 13's archive (1.14) needs curl and OpenSSL even so; there the shared library is used.
set(stoat_hdf5_places
  HEADER_DIRS ${stoat_hdf5_INCLUDE_DIRS} /usr/include/hdf5/serial
  LIB_DIRS ${stoat_hdf5_LIBRARY_DIRS} /usr/lib/${CMAKE_LIBRARY_ARCHITECTURE}/hdf5/serial)
_stoat_import(hdf5_static "libhdf5-dev libaec-dev" hdf5.h hdf5 STATIC ARCHIVES sz aec z ${stoat_hdf5_places})
target_link_libraries(stoat_dep::hdf5_static INTERFACE ${CMAKE_DL_LIBS} m Threads::Threads)
include(CheckCSourceCompiles)
set(CMAKE_REQUIRED_LIBRARIES stoat_dep::hdf5_static)
set(CMAKE_REQUIRED_QUIET ON)
check_c_source_compiles(
  "#include <hdf5.h>\nint main(void) { return H5Fopen(\"x\", H5F_ACC_RDONLY, H5Pcreate(H5P_FILE_ACCESS)) < 0; }"
  STOAT_HDF5_STATIC_LINKS)
unset(CMAKE_REQUIRED_LIBRARIES)
unset(CMAKE_REQUIRED_QUIET)
if(STOAT_HDF5_STATIC_LINKS)
  add_library(stoat_dep::hdf5 ALIAS stoat_dep::hdf5_static)
elseif(STOAT_PORTABLE)
  message(FATAL_ERROR "STOAT_PORTABLE needs a libhdf5.a that links without curl; Debian 12's does. "
    "Build portable programs there, or configure another preset")
else()
  _stoat_import(hdf5 libhdf5-dev hdf5.h hdf5 ${stoat_hdf5_places})
endif()

include(systemc)

if(BUILD_TESTING)
  _stoat_find(GTest "libgtest-dev libgmock-dev" CONFIG)
endif()
find_package(benchmark QUIET)
if(NOT benchmark_FOUND)
  message(STATUS "stoat: Google Benchmark left out (libbenchmark-dev is not installed)")
endif()
