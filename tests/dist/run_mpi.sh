#!/bin/sh
# usage: run_mpi.sh TREE BUCKETS: runs tests/dist/mpi_tree.c on several rank counts, with and without failing ranks, and
# mpi_buckets.c.
set -u
program=$1
. "$(dirname "$0")/expect.sh"

for ranks in 1 2 3 4; do
    expect 0 60 "^ok $ranks ranks" $ranks
    expect 0 60 "^ok $ranks ranks" $ranks data
done
for who in 0 1; do
    expect 3 5 "graft: error: a.jsonl: line 3 is no JSON" 3 fail $who
    expect 4 5 "graft: error: rank $who: layer 3: the loss is not finite" 3 die $who
    expect 1 7 "rank $who of 3 has made no progress for 2 s, last seen at the place of the hang" 3 hang $who
done
program=$2
for ranks in 1 2 3; do expect 0 60 "^ok $ranks ranks" $ranks; done
exit $failed
