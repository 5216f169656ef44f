# Tests of the whole engine share a tiny model and its batches.
target_sources(arch_test_engine PRIVATE common/tiny_model.c arch/oracle_side.c)
target_sources(arch_test_prefix PRIVATE common/tiny_model.c arch/oracle_side.c)
target_sources(arch_test_prompt PRIVATE common/tiny_model.c arch/oracle_side.c)
target_sources(arch_test_cached PRIVATE common/tiny_model.c)
target_sources(method_test_contract PRIVATE common/tiny_model.c)
target_sources(method_test_packing PRIVATE common/tiny_model.c)
target_sources(method_test_prefix PRIVATE common/tiny_model.c)
target_sources(method_test_slot PRIVATE common/tiny_model.c)
