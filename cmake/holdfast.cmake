# holdfast_library(NAME [EXCEPTIONS] SOURCES ... LINK ...): one library per folder. Code of ours
# builds without exceptions and RTTI; EXCEPTIONS is for the few files that wrap a library that throws.
function(holdfast_library name)
  cmake_parse_arguments(arg "EXCEPTIONS" "" "SOURCES;LINK" ${ARGN})
  add_library(${name} STATIC ${arg_SOURCES})
  target_link_libraries(${name} PUBLIC ${arg_LINK})
  if(NOT arg_EXCEPTIONS)
    target_compile_options(${name} PRIVATE $<$<COMPILE_LANGUAGE:CXX>:-fno-exceptions -fno-rtti>)
  endif()
endfunction()

# holdfast_unit_tests(FOLDER LINK ...): every tests/unit/FOLDER/*_test.cc in one program, each test a
# ctest case.
function(holdfast_unit_tests folder)
  cmake_parse_arguments(arg "" "" "LINK" ${ARGN})
  string(REPLACE "/" "_" name "unit_${folder}")
  file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/tests/unit/${folder}/*_test.cc)
  if(NOT sources)
    return()
  endif()
  add_executable(${name} ${sources})
  target_link_libraries(${name} PRIVATE ${arg_LINK} GTest::gmock GTest::gtest_main)
  gtest_discover_tests(${name} DISCOVERY_TIMEOUT 60 PROPERTIES LABELS quick TIMEOUT 120)
endfunction()
