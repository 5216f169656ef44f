#!/usr/bin/env bash
# Every kind of method on a device (GRAFT_CUDA: CUDA's kernels on the host) beside the CPU: losses within 1e-5 and trained tensors
# within 2e-5 (docs/numerics.md) in float32, the same
# bits on a second run and without recorded passes; a run that was stopped goes on on the other one; evaluation, scores
# and generation; bfloat16 close to float32; what is no device.
. "$(dirname "$0")/common.sh"
cuda=${GRAFT_CUDA:?set GRAFT_CUDA to the program with CUDA kernels}

# run PROGRAM OUT [key=value ...]
run() {
    local program=$1 out=$2
    shift 2
    "$program" train run.yaml "output_dir=$out" save_steps=2 save_total_limit=0 training.max_steps=4 data.max_seq_length=56 "$@" 2>"$out.log" ||
        { cat "$out.log"; die "$out"; }
}

# close A B LIMIT: the losses of two runs
close() {
    python3 - "$@" <<'PY' || die "losses of $1 and $2"
import json, sys
a, b = ([row["loss"] for row in map(json.loads, open(d + "/metrics.jsonl")) if "loss" in row] for d in sys.argv[1:3])
worst = max(abs(x - y) / abs(y) for x, y in zip(a, b))
print(sys.argv[1], sys.argv[2], "%.2g" % worst)
assert len(a) == len(b) >= 4 and worst <= float(sys.argv[3]), (a, b)
PY
}

# method NAME SECTION [key=value ...]
method() {
    local name=$1 section=$2
    shift 2
    run "$graft" "$name" --device=cpu "method=$section" "$@"
    run "$cuda" "$name-cuda" --device cuda "method=$section" "$@"
    run "$cuda" "$name-again" device=cuda "method=$section" training.cuda_graph=false "$@"
    grep -q 'device cuda:0' "$name-cuda.log" || { cat "$name-cuda.log"; die "$name: the device is not named"; }
    close "$name-cuda" "$name" 1e-5
    "$here/tensor_distance.py" "$name-cuda/final.h5" "$name/final.h5" 2e-5 || die "$name: tensors"
    same "$name-cuda/final.h5" "$name-again/final.h5"
    diff <(losses "$name-cuda") <(losses "$name-again") || die "$name: losses of equal runs"
}

method lora "{type: lora, r: 4, lora_alpha: 8, lora_dropout: 0.1, target_modules: all-linear}"
method prompt "{type: prompt_tuning, num_virtual_tokens: 4}" training.reduction=fast
method prefix "{type: prefix_tuning, num_virtual_tokens: 3, prefix_projection: true, encoder_hidden_size: 9}"
method full "{type: full}" training.gradient_checkpointing=true training.learning_rate=1e-3

# stopped on one, ended on the other
for first in cpu cuda; do
    [ $first = cpu ] && one=$graft other=$cuda to=cuda || one=$cuda other=$graft to=cpu
    run "$one" "from-$first" --device $first training.max_steps=4
    rm "from-$first"/final.h5 "from-$first"/checkpoint-*4.h5
    run "$other" "from-$first" --device $to
    grep -q 'resumed step 2' "from-$first.log" || { cat "from-$first.log"; die "from $first: did not go on"; }
    close "from-$first" lora 1e-5
    "$here/tensor_distance.py" "from-$first/final.h5" lora/final.h5 2e-5 || die "from $first: tensors"
done

# The library's algorithms are chosen once: a resume takes over the checkpoint's, so its bits are those of a run that was
# not interrupted, although the library would choose others now; on another version it says that it chooses anew. All
# examples are of one length, so that there is no product that was not chosen for at the checkpoint.
for i in 1 2 3 4 5 6 7 8 9 10 11 12; do echo '{"prompt": "the noun:", "completion": " another tin"}'; done >even.jsonl
for algorithm in 0 1; do
    CUDA_ON_HOST_ALGORITHM=$algorithm run "$cuda" algorithm-$algorithm --device cuda data.train=even.jsonl
done
h5diff -q algorithm-0/final.h5 algorithm-1/final.h5 /trainable /trainable && die "the algorithms have the same bits"
for version in 120000 120001; do
    cp -r algorithm-1 resumed-$version
    rm resumed-$version/final.h5 resumed-$version/checkpoint-*4.h5
    CUDA_ON_HOST_CUBLASLT=$version run "$cuda" resumed-$version --device cuda data.train=even.jsonl
    grep -q 'resumed step 2' resumed-$version.log || { cat resumed-$version.log; die "did not go on"; }
done
same algorithm-1/final.h5 resumed-120000/final.h5
! grep 'chosen anew' resumed-120000.log || die "a checkpoint that fits was not used"
grep -q 'algorithms are chosen anew' resumed-120001.log || { cat resumed-120001.log; die "another version is not told"; }
h5diff -q algorithm-1/final.h5 resumed-120001/final.h5 /trainable /trainable && die "another version has the same bits"
"$graft" inspect resumed-120000/final.h5 >plan
grep -q '^/plan      chosen on host processor.*cuBLASLt 120000' plan && grep -q '^  .* f32 to f32.*: algorithm 1 ' plan &&
    [ "$(grep -c ': algorithm 1 ' plan)" = "$("$graft" inspect algorithm-1/checkpoint-2.h5 | grep -c ': algorithm 1 ')" ] ||
    { head -40 plan; die "the algorithms are not in the checkpoint"; }
"$graft" inspect algorithm-0/final.h5 >plan
grep -q ': algorithm 0 ' plan || { head -40 plan; die "the algorithms of another run"; }
"$graft" inspect lora/final.h5 >plan
! grep -q '^/plan' plan || die "a run on the CPU has a plan"

for command in "eval tiny --adapter lora/final.h5 --data heldout.jsonl" "eval lora --data heldout.jsonl"; do
    "$graft" $command --device cpu >a.json
    "$cuda" $command --device cuda >b.json 2>log || { cat log; die "$command"; }
    python3 - <<'PY' || die "$command"
import json
a, b = json.load(open("a.json")), json.load(open("b.json"))
assert abs(a["loss"] - b["loss"]) <= 1e-5 * a["loss"] and a.get("exact_match") == b.get("exact_match"), (a, b)
PY
done
"$graft" score tiny --adapter lora/final.h5 --device cpu <heldout.jsonl >a.json
"$cuda" score tiny --adapter lora/final.h5 --device cuda <heldout.jsonl >b.json 2>log || { cat log; die score; }
python3 - <<'PY' || die "scores"
import json
a, b = ([json.loads(line) for line in open(f)] for f in ("a.json", "b.json"))
assert len(a) == len(b) == 8
for x, y in zip(a, b):
    assert x["tokens"] == y["tokens"]
    assert all(abs(p - q) <= 1e-4 for p, q in zip(x["logprobs"], y["logprobs"])), (x, y)
PY
for adapter in lora prefix prompt; do
    for device in cpu cuda; do
        [ $device = cpu ] && program=$graft || program=$cuda
        printf '%s\n' "the noun:" "another tin on there:" | "$program" generate tiny --adapter $adapter/final.h5 \
            --max-new-tokens 6 --json --device $device >$device.json 2>log || { cat log; die "generate with $adapter"; }
    done
    diff cpu.json cuda.json || die "$adapter: other continuations"
done

run "$cuda" half --device cuda model.dtype=bfloat16
close half lora 3e-2

# rows of added tokens are float beside weights in bfloat16, into which they are rounded after every update: the head
# learns two tokens that stand behind every prompt
python3 - <<'PY'
import json
with open("marked.jsonl", "w") as f:
    for i in range(40):
        mark = "<|good|>" if i % 2 else "<|bad|>"
        f.write(json.dumps({"prompt": "the noun " + "tin " * (i % 2 + 2), "completion": mark + mark}) + "\n")
PY
marked=(data.train=marked.jsonl data.eval=marked.jsonl 'conditioning.special_tokens=["<|good|>", "<|bad|>"]'
    training.max_steps=8 training.learning_rate=0.1 training.lr_scheduler_type=constant method.r=1 method.target_modules=[q_proj])
run "$graft" marked --device cpu "${marked[@]}"
run "$cuda" marked-half --device cuda model.dtype=bfloat16 "${marked[@]}"
close marked-half marked 0.1 # at this learning rate roundings grow; rows that stay as they were would be 1.3 off
python3 - <<'PY' || die "the added tokens are not learned"
import json
loss = [row["loss"] for row in map(json.loads, open("marked-half/metrics.jsonl")) if "loss" in row]
assert loss[-1] < 0.5 * loss[0], loss
PY
mpirun -n 2 "$cuda" train run.yaml output_dir=marked-ranks save_steps=2 save_total_limit=0 data.max_seq_length=56 device=cuda \
    model.dtype=bfloat16 "${marked[@]}" training.optimizer_sharding=zero1 2>log || { cat log; die "added tokens on two devices"; }
same marked-half/final.h5 marked-ranks/final.h5

# fails CODE TEXT PROGRAM ARGUMENT ...
fails() {
    local code=$1 text=$2 got=0
    shift 2
    "$@" >log 2>&1 || got=$?
    [ $got = "$code" ] && grep -q -- "$text" log || { cat log; die "$*: exit $got, not $code with '$text'"; }
}
fails 2 'built without CUDA' "$graft" train run.yaml output_dir=x --device cuda
fails 2 'bfloat16 is there on GPUs' "$graft" train run.yaml output_dir=x --device cpu model.dtype=bfloat16
fails 2 "there is no cuda:99" "$cuda" train run.yaml output_dir=x --device cuda:99
fails 2 "'gpu' is not known" "$cuda" train run.yaml output_dir=x --device gpu
fails 2 'there is no GPU' env CUDA_ON_HOST_DEVICES=0 "$cuda" train run.yaml output_dir=x --device cuda
fails 2 'ranks of this node are to use 1 GPU' env CUDA_ON_HOST_DEVICES=1 mpirun -n 2 "$cuda" train run.yaml output_dir=x --device cuda
[ ! -e x ] || die "a refused run left something"
CUDA_ON_HOST_DEVICES=0 run "$cuda" without
grep -q 'there is no GPU; the CPU computes' without.log || { cat without.log; die "the choice is not told"; }
echo ok
