# Tests that need mpirun; included by tests/CMakeLists.txt. The same program on the host and on emulated devices.
add_executable(dist_mpi_tree ${CMAKE_CURRENT_LIST_DIR}/mpi_tree.c)
target_link_libraries(dist_mpi_tree PRIVATE graft_train graft_cuda_none)
add_test(NAME dist_mpi COMMAND ${CMAKE_CURRENT_LIST_DIR}/run_mpi.sh $<TARGET_FILE:dist_mpi_tree>)
set_tests_properties(dist_mpi PROPERTIES TIMEOUT 300 LABELS dist RUN_SERIAL TRUE)
add_executable(dist_nccl_tree ${CMAKE_CURRENT_LIST_DIR}/mpi_tree.c)
target_link_libraries(dist_nccl_tree PRIVATE graft_train graft_cuda_host graft_nccl_host)
add_test(NAME dist_nccl COMMAND ${CMAKE_CURRENT_LIST_DIR}/run_nccl.sh $<TARGET_FILE:dist_nccl_tree>)
set_tests_properties(dist_nccl PROPERTIES TIMEOUT 300 LABELS dist RUN_SERIAL TRUE)
