# Builds ggml's CPU backend a second time, with the SIMD of newer ARM cores, beside the first in one program.
#
# In:  included by CMake after project(ggml) (CMAKE_PROJECT_ggml_INCLUDE, which llama-cpp-sys-2 hands on). Out: the library
#      `ggml-cpu-armv82`, with the entry points that the backend itself no longer has (cpu_backend.cpp): they choose at run time.
# Must never change a flag of the first backend: it is what runs on cores without dotprod.
#
# Why so: the sys crate sets GGML_CPU_ARM_ARCH=armv8-a after its environment, so that no variable changes it; one -march for
# all would not run on a Cortex-A72; GGML_CPU_ALL_VARIANTS loads backends by dlopen, which shuts the door that
# runtime/kernels goes through. Both backends come from the same sources, so that their structures are the same.
set(cloister_arch armv8.2-a+dotprod+fp16)

function(cloister_second_backend)
  # What the rest of ggml, llama.cpp and Rust call by name, and what has to be of the same backend as the threads.
  set(entries ggml_backend_cpu_reg ggml_backend_cpu_get_extra_buffer_types ggml_threadpool_new)
  set(first ${entries})
  set(second ${entries})
  list(TRANSFORM first REPLACE "(.+)" "\\1=\\1_armv8")
  list(TRANSFORM second REPLACE "(.+)" "\\1=\\1_armv82")

  foreach(property SOURCES SOURCE_DIR COMPILE_OPTIONS COMPILE_DEFINITIONS INCLUDE_DIRECTORIES)
    get_target_property(${property} ggml-cpu ${property})
  endforeach()
  if(NOT "-march=armv8-a" IN_LIST COMPILE_OPTIONS)
    message(FATAL_ERROR "ggml-cpu is not built with -march=armv8-a: ${COMPILE_OPTIONS}")
  endif()
  foreach(property COMPILE_OPTIONS COMPILE_DEFINITIONS)
    get_directory_property(of_folder DIRECTORY ${SOURCE_DIR} ${property})
    list(PREPEND ${property} ${of_folder})
  endforeach()
  list(TRANSFORM SOURCES PREPEND ${SOURCE_DIR}/)
  list(TRANSFORM COMPILE_OPTIONS REPLACE "^-march=.*" "-march=${cloister_arch}")
  target_compile_definitions(ggml-cpu PRIVATE ${first})

  add_library(ggml-cpu-armv82-objects OBJECT ${SOURCES})
  # A unique name of the GNU linker's cannot be made local.
  target_compile_options(ggml-cpu-armv82-objects PRIVATE ${COMPILE_OPTIONS} $<$<COMPILE_LANGUAGE:CXX>:-fno-gnu-unique>)
  target_compile_definitions(ggml-cpu-armv82-objects PRIVATE ${COMPILE_DEFINITIONS} ${second})
  target_include_directories(ggml-cpu-armv82-objects PRIVATE ${INCLUDE_DIRECTORIES})
  target_link_libraries(ggml-cpu-armv82-objects PRIVATE ggml-base)

  # One object in which all names but the entry points are local: templates and inline functions, too, or the linker
  # would take those of the newer cores for both.
  set(object ${CMAKE_CURRENT_BINARY_DIR}/ggml-cpu-armv82.o)
  add_custom_command(
    OUTPUT ${object}
    COMMAND ${CMAKE_LINKER} -r --force-group-allocation -o ${object} $<TARGET_OBJECTS:ggml-cpu-armv82-objects>
    COMMAND ${CMAKE_OBJCOPY} --wildcard "--keep-global-symbol=*_armv82*" ${object}
    DEPENDS ggml-cpu-armv82-objects $<TARGET_OBJECTS:ggml-cpu-armv82-objects>
    COMMAND_EXPAND_LISTS VERBATIM)
  add_library(ggml-cpu-armv82 STATIC ${object} ${CMAKE_CURRENT_FUNCTION_LIST_DIR}/cpu_backend.cpp)
  set_source_files_properties(${object} PROPERTIES EXTERNAL_OBJECT ON GENERATED ON)
  target_include_directories(ggml-cpu-armv82 PRIVATE ${INCLUDE_DIRECTORIES} ${SOURCE_DIR}/ggml-cpu)
  target_link_libraries(ggml-cpu-armv82 PRIVATE ggml-base)
  install(TARGETS ggml-cpu-armv82 ARCHIVE)
endfunction()

cmake_language(DEFER CALL cloister_second_backend)
