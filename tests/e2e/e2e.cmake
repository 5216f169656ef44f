# End-to-end tests of the program; included by tests/CMakeLists.txt. They need mpirun, python3 (its standard library
# alone) and the HDF5 tools. The label soak marks what takes long; tests/run leaves it out.
function(graft_e2e name label timeout script)
  add_test(NAME e2e_${name} COMMAND ${CMAKE_CURRENT_LIST_DIR}/${script} ${ARGN})
  set_tests_properties(e2e_${name} PROPERTIES LABELS ${label} TIMEOUT ${timeout} RUN_SERIAL TRUE
                       ENVIRONMENT "GRAFT=$<TARGET_FILE:graft>")
endfunction()
graft_e2e(ranks e2e 300 ranks.sh)
graft_e2e(resume e2e 300 resume.sh)
graft_e2e(prompts e2e 600 prompts.sh)
graft_e2e(methods e2e 600 methods.sh)
graft_e2e(conditions e2e 600 conditions.sh)
graft_e2e(conditioning e2e 300 conditioning.sh)
graft_e2e(full e2e 300 full.sh)
graft_e2e(objectives e2e 600 objectives.sh)
graft_e2e(kills e2e 300 kills.sh 3)
graft_e2e(data_build e2e 300 data_build.sh)
graft_e2e(bad_inputs inputs 300 bad_inputs.sh)
graft_e2e(kills_soak soak 3600 kills.sh 50 2)
