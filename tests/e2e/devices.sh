#!/usr/bin/env bash
# One emulated GPU a rank: the canonical reduction gives the same bits on 1, 2 and 3 of them, also with sharded state
# and from a checkpoint of another number; `reduction: fast` agrees up to rounding; ranks share a GPU only when asked.
. "$(dirname "$0")/common.sh"
short=(device=cuda model.dtype=float32 training.max_steps=3 training.global_batch_size=6)

train 1 one "${short[@]}" 2>log || { cat log; die "training on one device"; }
[ "$(losses one | wc -l)" = 3 ] || { cat one/metrics.jsonl; die "metrics.jsonl has not one line a step"; }
for ranks in 2 3; do
    for sharding in none zero1; do
        out=r$ranks-$sharding
        train $ranks $out "${short[@]}" training.optimizer_sharding=$sharding 2>log || { cat log; die "$out"; }
        same one/final.h5 $out/final.h5
        diff <(losses one) <(losses $out) || die "losses of $out"
    done
done

train 2 fast "${short[@]}" training.reduction=fast training.optimizer_sharding=zero1 2>log || { cat log; die "fast"; }
paste <(losses one) <(losses fast) |
    awk '{ d = $2 - $4; if (d < 0) d = -d; if ($1 != $3 || d > 1e-5 * $2) { print; bad = 1 } } END { exit bad || NR != 3 }' ||
    die "losses of the fast reduction"

# the host computes the same up to rounding
train 1 host "${short[@]}" device=cpu 2>log || { cat log; die "training on the host"; }
paste <(losses one) <(losses host) |
    awk '{ d = $2 - $4; if (d < 0) d = -d; if ($1 != $3 || d > 1e-4 * $2) { print; bad = 1 } } END { exit bad || NR != 3 }' ||
    die "losses of the host"
echo "devices: ok"
