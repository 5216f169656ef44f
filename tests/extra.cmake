# The oracle: a double-precision Llama and GPT-2 that every arch test may compare with.
file(GLOB ORACLE_SRC CONFIGURE_DEPENDS oracle/oracle_*.c)
list(FILTER ORACLE_SRC EXCLUDE REGEX "oracle_dump\\.c$")
add_library(graft_oracle STATIC ${ORACLE_SRC})
target_link_libraries(graft_oracle PUBLIC m)
get_directory_property(arch_targets BUILDSYSTEM_TARGETS)
list(FILTER arch_targets INCLUDE REGEX "^arch_")
foreach(target ${arch_targets})
  target_link_libraries(${target} PRIVATE graft_oracle)
endforeach()
add_executable(oracle_dump oracle/oracle_dump.c)
target_link_libraries(oracle_dump PRIVATE graft_oracle)

# Comparisons with transformers and PEFT need Python packages; tests/oracle/venv DIR installs them.
set(GRAFT_VENV "" CACHE PATH "virtual environment made by tests/oracle/venv; empty: no comparison with Python")
if(GRAFT_VENV)
  add_test(NAME oracle_forward_parity COMMAND ${GRAFT_VENV}/bin/python ${CMAKE_CURRENT_SOURCE_DIR}/oracle/forward_parity.py
           --dump $<TARGET_FILE:oracle_dump>)
  add_test(NAME oracle_peft_parity COMMAND ${GRAFT_VENV}/bin/python ${CMAKE_CURRENT_SOURCE_DIR}/oracle/peft_parity.py
           --graft $<TARGET_FILE:graft>)
  add_test(NAME oracle_full_parity COMMAND ${GRAFT_VENV}/bin/python ${CMAKE_CURRENT_SOURCE_DIR}/oracle/full_parity.py
           --graft $<TARGET_FILE:graft>)
  add_test(NAME oracle_peft_prefix COMMAND ${GRAFT_VENV}/bin/python ${CMAKE_CURRENT_SOURCE_DIR}/oracle/peft_prefix.py
           --graft $<TARGET_FILE:graft>)
  add_test(NAME oracle_peft_prompt COMMAND ${GRAFT_VENV}/bin/python ${CMAKE_CURRENT_SOURCE_DIR}/oracle/peft_prompt.py
           --graft $<TARGET_FILE:graft>)
  add_test(NAME oracle_added_tokens COMMAND ${GRAFT_VENV}/bin/python ${CMAKE_CURRENT_SOURCE_DIR}/oracle/added_tokens.py
           --graft $<TARGET_FILE:graft>)
  add_test(NAME oracle_tokenizer_parity COMMAND ${GRAFT_VENV}/bin/python
           ${CMAKE_CURRENT_SOURCE_DIR}/oracle/tokenizer_parity.py $<TARGET_FILE:graft> 2000)
  set_tests_properties(oracle_forward_parity oracle_full_parity oracle_peft_parity oracle_peft_prefix oracle_peft_prompt
                       oracle_added_tokens oracle_tokenizer_parity PROPERTIES LABELS oracle TIMEOUT 600 COST 20
                       ENVIRONMENT OMP_WAIT_POLICY=passive)
  # The second asks llama.cpp, too: pip install llama-cpp-python compiles it, half an hour on two cores. Run it with
  # ctest -L llamacpp.
  add_test(NAME oracle_gguf_adapter COMMAND ${GRAFT_VENV}/bin/python ${CMAKE_CURRENT_SOURCE_DIR}/oracle/gguf_adapter.py
           --graft $<TARGET_FILE:graft>)
  set_tests_properties(oracle_gguf_adapter PROPERTIES LABELS oracle TIMEOUT 600)
  add_test(NAME llamacpp_gguf_adapter COMMAND ${GRAFT_VENV}/bin/python
           ${CMAKE_CURRENT_SOURCE_DIR}/oracle/gguf_adapter.py --graft $<TARGET_FILE:graft> --llama)
  set_tests_properties(llamacpp_gguf_adapter PROPERTIES LABELS llamacpp TIMEOUT 600)
endif()
