# Target stoat_version: the two functions of models/version.h. The build id comes from git at build
# time; its .cpp is rewritten only when the id changed, so a commit recompiles one small file.
set(stoat_version_source ${CMAKE_BINARY_DIR}/generated/version.cpp)
set(stoat_version_command
  ${CMAKE_COMMAND} -DSOURCE_DIR=${CMAKE_SOURCE_DIR} -DOUTPUT=${stoat_version_source}
  -DTOOL_VERSION=${PROJECT_VERSION} -P ${CMAKE_SOURCE_DIR}/scripts/cmake/write_version.cmake)
execute_process(COMMAND ${stoat_version_command} COMMAND_ERROR_IS_FATAL ANY)
add_custom_target(stoat_build_id COMMAND ${stoat_version_command}
  BYPRODUCTS ${stoat_version_source} COMMENT "Asking git for the build id")
add_library(stoat_version STATIC ${stoat_version_source})
add_library(stoat::version ALIAS stoat_version)
target_include_directories(stoat_version PRIVATE ${CMAKE_SOURCE_DIR})
add_dependencies(stoat_version stoat_build_id)
