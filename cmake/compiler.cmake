# Compiler flags, sanitizers, linker and compiler cache. Nothing here changes the meaning of the code.
find_program(CCACHE ccache)
if(CCACHE)
  # Precompiled headers need the sloppiness to be cached safely (ccache manual, "Precompiled headers"). Paths are taken relative to the base, so that
  # another clone, or another build folder with the same flags, finds what was compiled before.
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CMAKE_COMMAND} -E env CCACHE_BASEDIR=${PROJECT_SOURCE_DIR}
      CCACHE_SLOPPINESS=pch_defines,time_macros,include_file_mtime,include_file_ctime ${CCACHE})
endif()
find_program(MOLD mold)
if(MOLD)
  # Without separate-code mold 1.10 (Debian 12) may begin the part that is read-only after relocation at a thread_local byte on a page that
  # is not there: one program in some hundreds then does not start ("cannot apply additional memory protection").
  add_link_options(-fuse-ld=mold -Wl,-z,separate-code)
endif()

set(CMAKE_CXX_FLAGS_RELEASE "-O2")
add_compile_options(-Wall -Wextra -Wno-unused-parameter -fno-math-errno)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  add_compile_options(-fpch-preprocess)  # lets ccache see through the precompiled header
else()
  add_compile_options("SHELL:-Xclang -fno-pch-timestamp")  # the precompiled header is the same file each time: ccache knows it again
endif()

if(ITHACA_FUZZ)
  add_compile_options(-fsanitize=fuzzer-no-link)
endif()
if(ITHACA_SANITIZE)
  add_compile_options(-fsanitize=${ITHACA_SANITIZE} -fno-omit-frame-pointer -g1)
  add_link_options(-fsanitize=${ITHACA_SANITIZE})
  if(ITHACA_SANITIZE MATCHES "undefined")
    add_compile_options(-fno-sanitize-recover=all)
  endif()
endif()
