#!/bin/sh
# usage: run_nccl.sh TREE BUCKETS: runs tests/dist/mpi_tree.c and mpi_buckets.c on devices: vectors go through NCCL, and its
# failures end the job with the operation and the place named.
set -u
program=$1
. "$(dirname "$0")/expect.sh"

for ranks in 1 2 3 4; do expect 0 60 "^ok $ranks ranks" $ranks data; done

# what is not waited for is not there
CUDA_ON_HOST_LATE=1
export CUDA_ON_HOST_LATE
for ranks in 2 3; do expect 0 60 "^ok $ranks ranks" $ranks data; done
program=$2
for ranks in 1 2 3; do expect 0 60 "^ok $ranks ranks" $ranks; done
program=$1
unset CUDA_ON_HOST_LATE

# one GPU for all: only when that was asked for
export CUDA_ON_HOST_DEVICES=1
expect 0 60 "^ok 3 ranks" 3 data
expect 2 9 "graft: error: device: rank 0 shares .* with another rank; start one rank per GPU" 2 alone
unset CUDA_ON_HOST_DEVICES

# a rank that does not come, an asynchronous error, an operation that never ends on the device
most=2
for who in 0 1; do
    expect 1 9 "rank [012]: NCCL: all-reduce at the sum of the test has not ended for 3 s" 3 absent $who
done
export NCCL_ON_HOST_FAULT="1 error 1"
expect 1 5 "rank 1: NCCL: all-reduce at the sum of the test: remote process exited .*: a fault that was asked for" 3 absent 9
export NCCL_ON_HOST_FAULT="1 stall 0"
expect 1 9 "rank 1: NCCL: all-reduce at the sum of the test has not ended for 3 s" 3 absent 9
exit $failed
