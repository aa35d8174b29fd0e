# cmake --install gives find_package(vtl) with the target vtl::vtl. Installed are the library, the headers that users need
# and the program.
