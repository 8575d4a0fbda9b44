# The libraries of the system, as targets. With ORCD_PORTABLE the programs run on another distribution of the same age or
# younger: archives and headers where the system has them, and the one library that exists only shared lies beside the
# program. Then glibc and libstdc++ are all that is needed.
option(ORCD_PORTABLE "Link for machines without this system's libraries" OFF)

find_package(PkgConfig REQUIRED)
find_package(spdlog REQUIRED)
find_package(Boost 1.81 REQUIRED)
find_package(prometheus-cpp CONFIG REQUIRED)
pkg_check_modules(PCRE2 REQUIRED IMPORTED_TARGET libpcre2-8)
pkg_check_modules(UTF8PROC REQUIRED IMPORTED_TARGET libutf8proc)

set(ORCD_PCRE2 PkgConfig::PCRE2)
set(ORCD_UTF8PROC PkgConfig::UTF8PROC)
set(ORCD_SPDLOG spdlog::spdlog)
if(ORCD_PORTABLE)
  find_library(ORCD_PCRE2_ARCHIVE libpcre2-8.a REQUIRED)
  find_library(ORCD_UTF8PROC_ARCHIVE libutf8proc.a REQUIRED)
  set(ORCD_PCRE2 ${ORCD_PCRE2_ARCHIVE})
  set(ORCD_UTF8PROC ${ORCD_UTF8PROC_ARCHIVE})
  add_library(orcd_spdlog INTERFACE)
  target_compile_definitions(orcd_spdlog INTERFACE SPDLOG_FMT_EXTERNAL)
  target_link_libraries(orcd_spdlog INTERFACE fmt::fmt-header-only Threads::Threads)
  set(ORCD_SPDLOG orcd_spdlog)
endif()

# orcd_portable(TARGET): where ORCD_PORTABLE is set, strips the program, and puts beside it the library it looks for there.
function(orcd_portable TARGET)
  if(NOT ORCD_PORTABLE)
    return()
  endif()
  target_link_options(${TARGET} PRIVATE -s)
  set_target_properties(${TARGET} PROPERTIES BUILD_RPATH "\$ORIGIN")
  add_custom_command(TARGET ${TARGET} POST_BUILD VERBATIM
    COMMAND ${CMAKE_COMMAND} -E copy_if_different $<TARGET_FILE:prometheus-cpp::core>
            $<TARGET_FILE_DIR:${TARGET}>/$<TARGET_SONAME_FILE_NAME:prometheus-cpp::core>)
endfunction()
