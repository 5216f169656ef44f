# Tests that need mpirun; included by tests/CMakeLists.txt.
add_executable(dist_mpi_tree ${CMAKE_CURRENT_LIST_DIR}/mpi_tree.c)
target_link_libraries(dist_mpi_tree PRIVATE graft_train ${GRAFT_CUDA_LIBRARY})
add_test(NAME dist_mpi COMMAND ${CMAKE_CURRENT_LIST_DIR}/run_mpi.sh $<TARGET_FILE:dist_mpi_tree>)
set_tests_properties(dist_mpi PROPERTIES TIMEOUT 300 LABELS dist RUN_SERIAL TRUE)
