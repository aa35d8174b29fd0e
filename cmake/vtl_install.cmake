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
# Of the kernels, what the layers' headers speak of.
install(FILES kernels/activation_kind.h kernels/epilogue.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/vtl/kernels)
install(FILES kernels/conv2d/conv2d.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/vtl/kernels/conv2d)

configure_package_config_file(${PROJECT_SOURCE_DIR}/cmake/vtl-config.cmake.in ${PROJECT_BINARY_DIR}/vtl-config.cmake
                              INSTALL_DESTINATION ${vtl_package_dir})
write_basic_package_version_file(${PROJECT_BINARY_DIR}/vtl-config-version.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/vtl-config.cmake ${PROJECT_BINARY_DIR}/vtl-config-version.cmake DESTINATION ${vtl_package_dir})
