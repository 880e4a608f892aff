# Language level, warnings, sanitizers and the flags that keep results equal between builds.
set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin)
set(CMAKE_ARCHIVE_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/lib)
set(CMAKE_LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/lib)
set(CMAKE_BUILD_RPATH_USE_ORIGIN ON)
set(CMAKE_INSTALL_RPATH "$ORIGIN;$ORIGIN/../lib")

# -O2 without -g: the whole CPU build has a budget of four minutes on two cores.
set(CMAKE_CXX_FLAGS_RELEASE "-O2 -DNDEBUG")
set(CMAKE_C_FLAGS_RELEASE "-O2 -DNDEBUG")

if(STOAT_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  find_program(STOAT_CCACHE_PROGRAM ccache)
  mark_as_advanced(STOAT_CCACHE_PROGRAM)
  if(STOAT_CCACHE_PROGRAM)
    set(CMAKE_C_COMPILER_LAUNCHER ${STOAT_CCACHE_PROGRAM})
    set(CMAKE_CXX_COMPILER_LAUNCHER ${STOAT_CCACHE_PROGRAM})
    set(CMAKE_CUDA_COMPILER_LAUNCHER ${STOAT_CCACHE_PROGRAM})
  endif()
endif()

# No fused multiply-add behind our back and no -march=native: debug and release, this machine and the
# next one, give the same bytes.
add_compile_options(
  $<$<COMPILE_LANGUAGE:C,CXX>:-ffp-contract=off>
  $<$<COMPILE_LANGUAGE:CUDA>:-Xcompiler=-ffp-contract=off>)

# Linked privately by every target of ours; system headers are exempt because they are imported.
add_library(stoat_warnings INTERFACE)
target_compile_options(stoat_warnings INTERFACE
  $<$<COMPILE_LANGUAGE:CXX>:-Wall;-Wextra;-Wpedantic;-Wshadow;-Wconversion;-Wno-sign-conversion>
  $<$<COMPILE_LANGUAGE:CUDA>:-Xcompiler=-Wall,-Wextra>)
if(STOAT_WERROR)
  target_compile_options(stoat_warnings INTERFACE
    $<$<COMPILE_LANGUAGE:CXX>:-Werror>
    $<$<COMPILE_LANGUAGE:CUDA>:-Xcompiler=-Werror;-Werror=all-warnings>)
endif()

if(STOAT_SANITIZE)
  set(stoat_sanitize_flags -fsanitize=${STOAT_SANITIZE} -fno-omit-frame-pointer)
  if(STOAT_SANITIZE MATCHES "undefined")
    list(APPEND stoat_sanitize_flags -fno-sanitize-recover=undefined)
  endif()
  # GCC 12 sees uninitialised values inside instrumented standard headers (<regex>): not ours.
  list(APPEND stoat_sanitize_flags -Wno-maybe-uninitialized)
  add_compile_options("$<$<COMPILE_LANGUAGE:C,CXX>:${stoat_sanitize_flags}>")
  add_link_options(${stoat_sanitize_flags})
endif()
