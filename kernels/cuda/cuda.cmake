# The library graft_cuda: kernels/cuda compiled by nvcc for A100 (sm_80) and H100 (sm_90), with code for later devices.
set(GRAFT_CUDA_ARCHITECTURES "80-real;90" CACHE STRING "what CMake's CUDA_ARCHITECTURES takes; one compiles faster")
if(NOT CMAKE_CUDA_COMPILER)
  find_program(CMAKE_CUDA_COMPILER nvcc PATHS /usr/local/cuda/bin)
endif()
enable_language(CUDA)
find_package(CUDAToolkit REQUIRED)
set(CMAKE_CUDA_STANDARD 17)
set(CMAKE_CUDA_RUNTIME_LIBRARY Shared) # CUDA::cudart; a static one beside it would be a second runtime
set(CMAKE_CUDA_FLAGS_RELEASE "-O3 -g")
file(GLOB CUDA_SRC CONFIGURE_DEPENDS kernels/cuda/*.cu)
add_library(graft_cuda OBJECT ${CUDA_SRC})
set_target_properties(graft_cuda PROPERTIES CUDA_ARCHITECTURES "${GRAFT_CUDA_ARCHITECTURES}" CUDA_SEPARABLE_COMPILATION OFF)
target_compile_options(graft_cuda PRIVATE -Werror=all-warnings -Xcompiler=-Wall,-Wextra,-Wshadow,-Werror)
target_link_libraries(graft_cuda PUBLIC graft_base CUDA::cudart CUDA::cublasLt)

# The communicator between devices.
find_library(NCCL_LIB nccl PATHS ${CUDAToolkit_LIBRARY_DIR} REQUIRED)
find_path(NCCL_INCLUDE nccl.h PATHS ${CUDAToolkit_INCLUDE_DIRS} REQUIRED)
add_library(graft_nccl OBJECT train/comm/comm_nccl.c)
target_include_directories(graft_nccl SYSTEM PRIVATE ${NCCL_INCLUDE})
target_link_libraries(graft_nccl PUBLIC ${NCCL_LIB} CUDA::cudart)
