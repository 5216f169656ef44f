#!/usr/bin/env bash
# One GPU a rank (GRAFT_CUDA: CUDA's kernels and NCCL on the host): the canonical reduction gives the same bits on 1, 2
# and 3 of them, also with sharded state, when the devices are as late as they may be, from a checkpoint of another
# number, and when ranks share a GPU, which they do only when asked. `reduction: fast` agrees up to rounding.
. "$(dirname "$0")/common.sh"
graft=${GRAFT_CUDA:?set GRAFT_CUDA to the program with CUDA kernels}
short=(device=cuda model.dtype=float32 training.max_steps=3 training.global_batch_size=6)

train 1 one "${short[@]}" 2>log || { cat log; die "training on one device"; }
grep -q 'device cuda:0' log || { cat log; die "no device was used"; }
[ "$(losses one | wc -l)" = 3 ] || { cat one/metrics.jsonl; die "metrics.jsonl has not one line a step"; }
for ranks in 2 3; do
    for sharding in none zero1; do
        out=r$ranks-$sharding
        train $ranks $out "${short[@]}" training.optimizer_sharding=$sharding 2>log || { cat log; die "$out"; }
        same one/final.h5 $out/final.h5
        diff <(losses one) <(losses $out) || die "losses of $out"
    done
done
CUDA_ON_HOST_LATE=1 train 2 late "${short[@]}" training.optimizer_sharding=zero1 2>log || { cat log; die "late devices"; }
same one/final.h5 late/final.h5
export CUDA_ON_HOST_DEVICES=1
train 2 shared "${short[@]}" share_device=true 2>log || { cat log; die "a shared device"; }
same one/final.h5 shared/final.h5
unset CUDA_ON_HOST_DEVICES
train 3 parts "${short[@]}" training.max_steps=2 training.optimizer_sharding=zero1 training.lr_scheduler_type=constant \
    2>log || { cat log; die "the first part"; }
train 1 parts-one "${short[@]}" training.lr_scheduler_type=constant 2>log || { cat log; die "parts-one"; }
train 2 parts "${short[@]}" training.lr_scheduler_type=constant 2>log || { cat log; die "the second part"; }
same parts-one/final.h5 parts/final.h5

# the fast reduction, with clipping: whole gradients, and shares of them, whose norm is that of the whole
norms() { sed -n 's/.*"step": *\([0-9]*\),.*"loss": *\([^,}]*\).*"grad_norm": *\([^,}]*\).*/\1 \2 \3/p' "$1/metrics.jsonl"; }
train 1 clipped "${short[@]}" training.max_grad_norm=0.1 training.global_batch_size=12 2>log || { cat log; die "clipped"; }
for ranks in 2 3; do
    for sharding in none zero1; do
        out=fast$ranks-$sharding
        for again in "" -again; do
            NCCL_ON_HOST_TRACE=1 train $ranks $out$again "${short[@]}" training.max_grad_norm=0.1 training.global_batch_size=12 training.reduction=fast \
                training.optimizer_sharding=$sharding 2>log || { cat log; die "$out"; }
        done
        same $out/final.h5 $out-again/final.h5
        [ $sharding = none ] && used=all-reduce other=reduce-scatter || used=reduce-scatter other=all-reduce
        grep -q "^nccl: rank 1 $used" log && ! grep -q "^nccl: rank . $other" log ||
            { grep '^nccl' log | head; die "$out: $used was not the reduction"; }
        paste <(norms clipped) <(norms $out) | awk 'function off(a, b) { return a - b > 1e-5 * b || b - a > 1e-5 * b }
            { if ($1 != $4 || off($2, $5) || off($3, $6)) { print; bad = 1 } } END { exit bad || NR != 3 }' ||
            die "losses and norms of $out"
        "$here/tensor_distance.py" $out/final.h5 clipped/final.h5 1e-5 || die "tensors of $out"
    done
done

# the host computes the same up to rounding
train 1 host "${short[@]}" device=cpu 2>log || { cat log; die "training on the host"; }
paste <(losses one) <(losses host) |
    awk '{ d = $2 - $4; if (d < 0) d = -d; if ($1 != $3 || d > 1e-4 * $2) { print; bad = 1 } } END { exit bad || NR != 3 }' ||
    die "losses of the host"
# a failure of NCCL ends the job with the place named
got=0
NCCL_ON_HOST_FAULT="1 error 2" train 2 failing "${short[@]}" 2>log || got=$?
[ $got = 1 ] && grep -q 'graft: error: rank 1: NCCL: .* at gradient reduction: .*: a fault that was asked for' log ||
    { cat log; die "exit $got after an asynchronous error"; }
echo "devices: ok"
