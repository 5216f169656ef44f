# Tests of the whole engine share a tiny model and its batches.
target_sources(arch_test_engine PRIVATE common/tiny_model.c)
target_sources(method_test_contract PRIVATE common/tiny_model.c)
# two threads on a busy machine: waiting threads should not take the processor from working ones
set_tests_properties(arch_test_engine method_test_contract tape_test_tape PROPERTIES ENVIRONMENT OMP_WAIT_POLICY=passive)
