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
# Of the kernels, what the headers above speak of.
foreach(header activation_kind.h epilogue.h parameter_span.h adamw/adamw.h conv2d/conv2d.h)
  get_filename_component(folder ${header} DIRECTORY)
  install(FILES kernels/${header} DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/vtl/kernels/${folder})
endforeach()

configure_package_config_file(${PROJECT_SOURCE_DIR}/cmake/vtl-config.cmake.in ${PROJECT_BINARY_DIR}/vtl-config.cmake
                              INSTALL_DESTINATION ${vtl_package_dir})
write_basic_package_version_file(${PROJECT_BINARY_DIR}/vtl-config-version.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/vtl-config.cmake ${PROJECT_BINARY_DIR}/vtl-config-version.cmake DESTINATION ${vtl_package_dir})
