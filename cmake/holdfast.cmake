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

# holdfast_proto_library(NAME SOURCES x.proto ...): the messages of a part, as a library. x.proto beside
# this CMakeLists.txt is included as "FOLDER/x.pb.h", from the root as everything is. The code is that
# of the lite runtime, which needs no type information, so `optimize_for = LITE_RUNTIME` must stand in
# the file. What protoc writes is not ours to warn about; it throws nothing, and works in files that
# are built without exceptions and RTTI.
function(holdfast_proto_library name)
  cmake_parse_arguments(arg "" "" "SOURCES" ${ARGN})
  set(output ${CMAKE_BINARY_DIR}/proto)
  file(MAKE_DIRECTORY ${output})
  set(generated)
  foreach(source IN LISTS arg_SOURCES)
    cmake_path(ABSOLUTE_PATH source NORMALIZE OUTPUT_VARIABLE path)
    set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${path})
    file(STRINGS ${path} lite REGEX "^option optimize_for = LITE_RUNTIME;$")
    if(NOT lite)
      message(FATAL_ERROR "${path}: `option optimize_for = LITE_RUNTIME;` is missing")
    endif()
    cmake_path(RELATIVE_PATH path BASE_DIRECTORY ${CMAKE_SOURCE_DIR} OUTPUT_VARIABLE relative)
    string(REGEX REPLACE "\\.proto$" "" base ${output}/${relative})
    add_custom_command(OUTPUT ${base}.pb.cc ${base}.pb.h
      COMMAND protobuf::protoc --proto_path=${CMAKE_SOURCE_DIR} --cpp_out=${output} ${path}
      DEPENDS ${path} protobuf::protoc
      COMMENT "protoc ${relative}" VERBATIM)
    list(APPEND generated ${base}.pb.cc ${base}.pb.h)
  endforeach()
  add_library(${name} STATIC ${generated})
  target_include_directories(${name} SYSTEM PUBLIC ${output})
  target_link_libraries(${name} PUBLIC protobuf::libprotobuf-lite)
  target_compile_options(${name} PRIVATE -w -fno-exceptions -fno-rtti)
endfunction()
