# Tests of the whole engine compare with the oracle.
foreach(name engine prefix prompt)
  target_sources(arch_test_${name} PRIVATE arch/oracle_side.c)
endforeach()
