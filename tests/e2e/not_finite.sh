#!/usr/bin/env bash
# A loss that becomes infinite in one micro-batch, and so on one rank: on the CPU and on devices (GRAFT_CUDA: CUDA's
# kernels and NCCL on the host), with every way to sum gradients, the job ends with exit code 4 and the same message,
# which names the step and the micro-batch; the checkpoint before it is that of a run which nothing happened to.
. "$(dirname "$0")/common.sh"
cuda=${GRAFT_CUDA:?set GRAFT_CUDA to the program with CUDA kernels}
sed -i '/eval/d' run.yaml

# example 28 is in step 3; its score is a number, but its square is none
python3 - <<'PY'
import json
rows = [json.loads(line) for line in open("train.jsonl")]
for name, worst in ("good.jsonl", 1.0), ("bad.jsonl", 1e200):
    with open(name, "w") as f:
        for i, row in enumerate(rows):
            f.write(json.dumps(dict(row, score=worst if i == 28 else 0.1 * (i % 7))) + "\n")
PY

# run PROGRAM RANKS OUT DATA [key=value ...]
run() {
    local program=$1 ranks=$2 out=$3 data=$4
    shift 4
    graft=$program train "$ranks" "$out" data.train="$data" data.shuffle=false training.max_steps=4 \
        save_steps=1 save_total_limit=0 'objective={type: advantage_weighted}' "$@" 2>"$out.log"
}

# ends PROGRAM RANKS OUT [key=value ...]: as it should, beside the run `good`
ends() {
    local got=0 out=$3
    run "$1" "$2" "$3" bad.jsonl "${@:4}" || got=$?
    grep '^graft: error' "$out.log" >"$out.message" || true
    [ $got = 4 ] && diff "$out.message" message || { cat "$out.log"; die "$out: exit $got"; }
    [ "$(cat "$out/latest")" = checkpoint-2.h5 ] && [ ! -e "$out/checkpoint-3.h5" ] || die "$out: other checkpoints"
    [ "$(losses "$out" | wc -l)" = 2 ] || die "$out: a step too many is reported"
    "$graft" inspect "$out/checkpoint-2.h5" --verify >inspected || die "$out: the checkpoint is damaged"
}

run "$graft" 1 good good.jsonl device=cpu || { cat good.log; die "the run without a fault"; }
run "$cuda" 1 good-cuda good.jsonl device=cuda || { cat good-cuda.log; die "the run without a fault on a device"; }
[ "$(losses good | wc -l)" = 4 ] && [ -e good/checkpoint-4.h5 ] || die "the run without a fault"
run "$graft" 1 first bad.jsonl device=cpu && die "an infinite loss went through"
grep '^graft: error' first.log >message || true
grep -q '^graft: error: training: step 3 has loss inf, first in micro-batch [2-9] of [3-9] and gradient norm nan; nothing' message ||
    { cat first.log; die "message"; }
for ranks in 1 2 3; do
    ends "$graft" $ranks cpu-$ranks device=cpu
    same cpu-$ranks/checkpoint-2.h5 good/checkpoint-2.h5
    ends "$cuda" $ranks cuda-$ranks device=cuda
    same cuda-$ranks/checkpoint-2.h5 good-cuda/checkpoint-2.h5
done
for sharding in none zero1; do
    ends "$graft" 2 cpu-fast-$sharding device=cpu training.reduction=fast training.optimizer_sharding=$sharding
    ends "$cuda" 2 cuda-fast-$sharding device=cuda training.reduction=fast training.optimizer_sharding=$sharding
    "$here/tensor_distance.py" cpu-fast-$sharding/checkpoint-2.h5 good/checkpoint-2.h5 1e-5
    "$here/tensor_distance.py" cuda-fast-$sharding/checkpoint-2.h5 good/checkpoint-2.h5 1e-5
done
echo "not_finite: ok"
