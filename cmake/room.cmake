# One static library a room (folder of src/ithaca). DEPS are the rooms it may know: the include path of the others is the same
# folder, so tools/layering.py checks the #include lines as well.
#   ithaca_room(NAME nn TORCH SOURCES linear.cpp ... DEPS kernels base LIBS extra::target)
function(ithaca_room)
  cmake_parse_arguments(R "TORCH" "NAME" "SOURCES;DEPS;LIBS" ${ARGN})
  set(target ithaca_${R_NAME})
  add_library(${target} STATIC ${R_SOURCES})
  target_include_directories(${target} PUBLIC ${PROJECT_SOURCE_DIR}/src)
  list(TRANSFORM R_DEPS PREPEND ithaca_)
  target_link_libraries(${target} PUBLIC ${R_DEPS} ${R_LIBS})
  if(R_TORCH)
    ithaca_uses_torch(${target})
  endif()
endfunction()

# Links a target to libtorch and lets it reuse the one precompiled header (half of a small file's compile time).
function(ithaca_uses_torch target)
  target_link_libraries(${target} PUBLIC torch::cpu)
  if(NOT TARGET ithaca_torch_pch)
    # file(CONFIGURE) leaves an equal file untouched: a new configure run does not rebuild the header and all that uses it.
    file(CONFIGURE OUTPUT ${PROJECT_BINARY_DIR}/pch.cpp CONTENT "// holds the precompiled header\n")
    add_library(ithaca_torch_pch OBJECT ${PROJECT_BINARY_DIR}/pch.cpp)
    target_link_libraries(ithaca_torch_pch PUBLIC torch::cpu)
    target_precompile_headers(ithaca_torch_pch PRIVATE <ATen/core/Tensor.h> <torch/csrc/autograd/custom_function.h>
      <functional> <map> <memory> <optional> <string> <vector>)
  endif()
  target_precompile_headers(${target} REUSE_FROM ithaca_torch_pch)
endfunction()

# Programs are compiled with -fPIC as the rooms are, not -fPIE: a precompiled header serves only files with the same flags.
function(ithaca_same_flags_as_rooms target)
  set_target_properties(${target} PROPERTIES POSITION_INDEPENDENT_CODE OFF)
  target_compile_options(${target} PRIVATE -fPIC)
endfunction()

# One test program a room; every GoogleTest case becomes a ctest case through one process per program.
#   ithaca_test(NAME comm SOURCES a_test.cpp DEPS comm TIMEOUT 300 LABELS long)
function(ithaca_test)
  cmake_parse_arguments(T "TORCH" "NAME;TIMEOUT" "SOURCES;DEPS;LIBS;LABELS" ${ARGN})
  set(target ${T_NAME}_test)
  add_executable(${target} ${T_SOURCES})
  ithaca_same_flags_as_rooms(${target})
  list(TRANSFORM T_DEPS PREPEND ithaca_)
  target_link_libraries(${target} PRIVATE ${T_DEPS} ${T_LIBS} GTest::gtest_main GTest::gmock)
  target_include_directories(${target} PRIVATE ${PROJECT_SOURCE_DIR})
  target_compile_definitions(${target} PRIVATE ITHACA_SOURCE_DIR="${PROJECT_SOURCE_DIR}" ITHACA_BINARY_DIR="${PROJECT_BINARY_DIR}")
  if(T_TORCH)
    ithaca_uses_torch(${target})
  endif()
  if(NOT T_TIMEOUT)
    set(T_TIMEOUT 300)
  endif()
  add_test(NAME ${T_NAME} COMMAND ${target})
  set_tests_properties(${T_NAME} PROPERTIES TIMEOUT ${T_TIMEOUT} LABELS "${T_LABELS}"
    ENVIRONMENT "OMP_NUM_THREADS=1")
endfunction()
