# libtorch 2.11.x through imported targets of our own. find_package(Torch) is not used: it demands a CUDA toolkit on CPU machines,
# ignores CMAKE_CUDA_ARCHITECTURES and leaks nvcc flags.
# TORCH_ROOT is the folder that holds torch/ (include, lib) and, for the wheel, nvidia/ beside it.
if(DEFINED ENV{ITHACA_CACHE})
  set(_cache "$ENV{ITHACA_CACHE}")
else()
  set(_cache "$ENV{HOME}/.cache/ithaca")
endif()
set(TORCH_ROOT "${_cache}/torch-2.11.0" CACHE PATH "Folder that holds torch/ of an unpacked torch 2.11 wheel or libtorch")
if(ITHACA_FUZZ)
  return()  # the fuzzers build only the rooms that know no torch
endif()
if(NOT EXISTS "${TORCH_ROOT}/torch/include/torch/headeronly/version.h")
  message(FATAL_ERROR "No libtorch at TORCH_ROOT=${TORCH_ROOT} (torch/include/torch/headeronly/version.h is missing). "
    "Run scripts/setup.sh, or point -DTORCH_ROOT at a folder that holds the torch/ of a 2.11 wheel.")
endif()
file(STRINGS "${TORCH_ROOT}/torch/include/torch/headeronly/version.h" _lines REGEX "#define TORCH_VERSION_(MAJOR|MINOR|PATCH) [0-9]+")
string(REGEX MATCHALL "[0-9]+" _numbers "${_lines}")
list(JOIN _numbers "." TORCH_VERSION)
if(NOT TORCH_VERSION MATCHES "^2\\.11\\.")
  message(FATAL_ERROR "libtorch ${TORCH_VERSION} at ${TORCH_ROOT}: Ithaca needs 2.11.x. The attention operators and c10d classes "
    "it calls change their arguments and virtual tables from release to release; another version would build and then misbehave.")
endif()

set(_torch "${TORCH_ROOT}/torch")
function(_imported_library name file)
  add_library(${name} SHARED IMPORTED GLOBAL)
  set_target_properties(${name} PROPERTIES IMPORTED_LOCATION "${file}")
endfunction()
_imported_library(torch::c10 "${_torch}/lib/libc10.so")
_imported_library(torch::cpu "${_torch}/lib/libtorch_cpu.so")
target_include_directories(torch::cpu SYSTEM INTERFACE "${_torch}/include" "${_torch}/include/torch/csrc/api/include")
target_compile_definitions(torch::cpu INTERFACE AT_PER_OPERATOR_HEADERS USE_DISTRIBUTED USE_C10D_GLOO)
# at::parallel_for is a template of ATen's headers: without -fopenmp it compiles to a loop on one thread, silently. Two OpenMP runtimes in one
# process would have threads and settings of their own, and half of the other's functions. GCC's code shares the one that libtorch itself loads.
# Clang's code needs LLVM's, which also offers all of GCC's entry points: linked directly it is found before libtorch's, and serves libtorch too.
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  file(GLOB _openmp LIST_DIRECTORIES false "${_torch}/lib/libgomp*.so*")
  list(LENGTH _openmp _found)
  if(NOT _found EQUAL 1)
    message(FATAL_ERROR "Expected one libgomp in ${_torch}/lib, found ${_found}: Ithaca's kernels must share libtorch's OpenMP runtime.")
  endif()
else()
  find_package(OpenMP REQUIRED COMPONENTS CXX)
  list(FILTER OpenMP_CXX_LIBRARIES INCLUDE REGEX "libomp")
  list(GET OpenMP_CXX_LIBRARIES 0 _openmp)
endif()
_imported_library(torch::openmp "${_openmp}")
target_compile_options(torch::cpu INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-fopenmp>)
target_link_libraries(torch::cpu INTERFACE torch::c10 torch::openmp)
# The wheel's libtorch_cpu needs libcudart and libcupti (profiler); they lie beside it and are found by its own RPATH.
target_link_options(torch::cpu INTERFACE -Wl,--allow-shlib-undefined)

if(ITHACA_CUDA)
  set(CMAKE_CUDA_ARCHITECTURES 90a CACHE STRING "GPU architectures")
  find_package(CUDAToolkit 13 REQUIRED)
  # The toolkit has it, or the wheels of a CUDA build.
  find_path(NCCL_INCLUDE_DIR nccl.h HINTS ${CUDAToolkit_INCLUDE_DIRS} "${TORCH_ROOT}/nvidia/nccl/include" REQUIRED)
  _imported_library(torch::c10_cuda "${_torch}/lib/libc10_cuda.so")
  _imported_library(torch::cuda "${_torch}/lib/libtorch_cuda.so")
  # For every file, with CUDA calls or without: the one precompiled header serves only files with the same definitions.
  target_include_directories(torch::cpu SYSTEM INTERFACE ${CUDAToolkit_INCLUDE_DIRS} ${NCCL_INCLUDE_DIR})
  target_compile_definitions(torch::cpu INTERFACE USE_CUDA USE_C10D_NCCL)
  # Its operators register themselves when loaded: never let the linker drop it.
  target_link_libraries(torch::cuda INTERFACE torch::cpu torch::c10_cuda)
  target_link_options(torch::cuda INTERFACE -Wl,--no-as-needed "${_torch}/lib/libtorch_cuda.so" -Wl,--as-needed)
endif()
