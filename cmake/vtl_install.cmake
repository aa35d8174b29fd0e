# cmake --install gives find_package(vtl) with the target vtl::vtl. Installed are the library, the headers that users need
# and the program.
include(CMakePackageConfigHelpers)

set(vtl_package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/vtl)
install(TARGETS vtl EXPORT vtl_targets ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(EXPORT vtl_targets FILE vtl_targets.cmake NAMESPACE vtl:: DESTINATION ${vtl_package_dir})
if(TARGET vtl-finetune)
  install(TARGETS vtl-finetune RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
endif()

foreach(folder core layers optim models io tools/finetune)
  install(DIRECTORY ${folder}/ DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/vtl/${folder} FILES_MATCHING PATTERN "*.h"
          PATTERN "json.h" EXCLUDE PATTERN "*_table.h" EXCLUDE)
endforeach()
# Of the kernels, the headers that those above include, and what these include in turn.
file(GLOB_RECURSE vtl_open_headers RELATIVE ${PROJECT_SOURCE_DIR} CONFIGURE_DEPENDS core/*.h layers/*.h optim/*.h models/*.h io/*.h tools/finetune/*.h)
while(vtl_open_headers)
  list(POP_FRONT vtl_open_headers header)
  file(STRINGS ${PROJECT_SOURCE_DIR}/${header} includes REGEX "^#include \"vtl/kernels/")
  foreach(include IN LISTS includes)
    string(REGEX REPLACE "^#include \"vtl/(.*)\".*" "\\1" kernel ${include})
    if(NOT kernel IN_LIST vtl_kernel_headers)
      list(APPEND vtl_kernel_headers ${kernel})
      list(APPEND vtl_open_headers ${kernel})
    endif()
  endforeach()
endwhile()
foreach(header ${vtl_kernel_headers})
  get_filename_component(folder ${header} DIRECTORY)
  install(FILES ${header} DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/vtl/${folder})
endforeach()

configure_package_config_file(${PROJECT_SOURCE_DIR}/cmake/vtl-config.cmake.in ${PROJECT_BINARY_DIR}/vtl-config.cmake
                              INSTALL_DESTINATION ${vtl_package_dir})
write_basic_package_version_file(${PROJECT_BINARY_DIR}/vtl-config-version.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/vtl-config.cmake ${PROJECT_BINARY_DIR}/vtl-config-version.cmake DESTINATION ${vtl_package_dir})
