#!/usr/bin/env bash
# The canonical reduction: losses, adapter and optimiser state are the same bits on 1, 2, 3 and 4 ranks, with 1 and 2
# threads a rank, with and without recompute. `reduction: fast` agrees up to rounding.
. "$(dirname "$0")/common.sh"

OMP_NUM_THREADS=1 train 1 one 2>log || { cat log; die "training on one rank"; }
[ "$(losses one | wc -l)" = 6 ] || { cat one/metrics.jsonl; die "metrics.jsonl has not one line a step"; }
for ranks in 1 2 3 4; do
    for threads in 1 2; do
        [ $ranks-$threads = 1-1 ] && continue
        out=r$ranks-t$threads
        OMP_NUM_THREADS=$threads train $ranks $out 2>log || { cat log; die "training on $ranks ranks, $threads threads"; }
        same one/final.h5 $out/final.h5
        diff <(losses one) <(losses $out) || die "losses on $ranks ranks, $threads threads"
    done
done
train 2 recompute training.gradient_checkpointing=true 2>log || { cat log; die "training with recompute"; }
same one/final.h5 recompute/final.h5

# packing is execution: another packing gives the same losses up to rounding, and so does the other reduction
for other in data.packing=none training.micro_batch_tokens=256 training.reduction=fast; do
    train 2 "other-$other" "$other" method.lora_dropout=0.0 2>log || { cat log; die "training with $other"; }
    train 1 "plain-$other" method.lora_dropout=0.0 2>log || { cat log; die "training without dropout"; }
    paste <(losses "plain-$other") <(losses "other-$other") |
        awk '{ d = $2 - $4; if (d < 0) d = -d; if ($1 != $3 || d > 1e-5 * $2) { print; bad = 1 } } END { exit bad || NR != 6 }' ||
        die "losses with $other"
done

# it does learn, and evaluation says the same before export and after
"$graft" eval tiny --data heldout.jsonl >before.json
"$graft" eval tiny --adapter one/final.h5 --data heldout.jsonl >after.json
"$graft" export one/final.h5 --format peft peft >export.txt
"$graft" eval tiny --adapter peft --data heldout.jsonl >peft.json
"$graft" export one/final.h5 --format merged-safetensors merged >>export.txt
"$graft" eval merged --data heldout.jsonl >merged.json
mpirun -n 3 "$graft" eval one --data heldout.jsonl >ranks.json
python3 - <<'PY' || die "evaluations"
import json
before, after, peft, merged, ranks = (json.load(open(n + ".json")) for n in "before after peft merged ranks".split())
print({n: round(x["loss"], 4) for n, x in dict(before=before, after=after, merged=merged).items()})
assert after["loss"] < before["loss"] - 0.1
assert peft["loss"] == after["loss"], (peft, after)
assert abs(merged["loss"] - after["loss"]) < 1e-4, (merged, after)
assert abs(ranks["loss"] - after["loss"]) < 1e-6, (ranks, after)
last = [json.loads(l) for l in open("one/metrics.jsonl")]
last = [l["eval_loss"] for l in last if "eval_loss" in l]
assert len(last) >= 2 and abs(last[-1] - after["loss"]) < 1e-6, (last, after)
PY
echo '{"prompt": "the noun:"}' | "$graft" generate tiny --adapter peft --max-new-tokens 4 --json >a.json
echo '{"prompt": "the noun:"}' | "$graft" generate tiny --adapter one/final.h5 --max-new-tokens 4 --json >b.json
cmp a.json b.json || die "generate differs between a checkpoint and its export"
echo "ranks: ok"
