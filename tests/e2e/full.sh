#!/usr/bin/env bash
# Full fine-tuning of a model made anew: it learns, every command finds it again, and ranks, sharded optimiser state and
# resumes change no bit.
. "$(dirname "$0")/common.sh"
python3 "$here/tiny_model.py" gpt2 gpt2
small_model >small.yaml
sed -i -e 's/^model: tiny/model: {config: small, tokenizer: tiny}/' -e '/^method:/,/^data:/c method: {type: full}\ndata:' \
    -e 's/max_steps: 6/max_steps: 20/' -e 's/eval_steps: 3/save_steps: 10/' run.yaml

# run RANKS OUT [key=value ...]: quiet unless it fails
run() { train "$@" 2>log || { cat log; die "training $*"; }; }

run 1 one
[ "$(losses one | wc -l)" = 20 ] || die "metrics.jsonl has not one line a step"
losses one | awk 'NR == 1 { first = $2 } { last = $2 } END { exit !(first > 5 && last < 0.6 * first) }' ||
    { losses one; die "the loss does not fall"; }
for ranks in 1 2 3; do
    for sharding in none zero1; do
        [ $ranks-$sharding = 1-none ] && continue
        run $ranks r$ranks-$sharding training.optimizer_sharding=$sharding
        same one/final.h5 r$ranks-$sharding/final.h5
        diff <(losses one) <(losses r$ranks-$sharding) || die "losses on $ranks ranks, sharding $sharding"
    done
done
run 2 recompute training.gradient_checkpointing=true training.optimizer_sharding=zero1
same one/final.h5 recompute/final.h5

# from the checkpoint of one way to run, each other way goes on with the same bits
run 1 resumed-1 resume_from_checkpoint=r3-zero1/checkpoint-10.h5
run 2 resumed-2 resume_from_checkpoint=r3-zero1/checkpoint-10.h5 training.optimizer_sharding=zero1
run 3 resumed-3 resume_from_checkpoint=one/checkpoint-10.h5 training.optimizer_sharding=zero1
for i in 1 2 3; do same one/final.h5 resumed-$i/final.h5; done

# the fast reduction is right up to rounding
run 2 fast training.reduction=fast training.optimizer_sharding=zero1
paste <(losses one) <(losses fast) |
    awk '{ d = $2 - $4; if (d < 0) d = -d; if ($1 != $3 || d > 1e-3 * $2) { print; bad = 1 } } END { exit bad || NR != 20 }' ||
    die "losses of the fast reduction"

# another seed is another model; a resume knows the difference
run 1 other training.seed=8 training.max_steps=1
[ "$(losses one | head -1)" != "$(losses other | head -1)" ] || die "the seed changes nothing"
sed -i 's/intermediate_size: 48/intermediate_size: 40/' small.yaml
train 1 other training.seed=8 training.max_steps=2 2>log && die "a run went on with another model"
grep -q "the base model is not the one this run began with" log || { cat log; die "message about another model"; }
sed -i 's/intermediate_size: 40/intermediate_size: 48/' small.yaml

# every command finds the model again, and the export is it
"$graft" eval one --data heldout.jsonl >run.json
"$graft" eval one --adapter one/checkpoint-10.h5 --data heldout.jsonl >middle.json
"$graft" export one --format merged-safetensors merged >export.txt
"$graft" eval merged --data heldout.jsonl >merged.json
echo '{"prompt": "the noun:"}' | "$graft" generate one --max-new-tokens 4 --json >a.json
echo '{"prompt": "the noun:"}' | "$graft" generate merged --max-new-tokens 4 --json >b.json
cmp a.json b.json || die "generate differs between a run and its export"
echo '{"text": "the noun another"}' | "$graft" score one >a.json
echo '{"text": "the noun another"}' | "$graft" score merged >b.json
cmp a.json b.json || die "score differs between a run and its export"
# what was trained is the start of another run
run 1 again 'method.init_from=one/final.h5' training.max_steps=1
# and a model on disk trains as one made anew does
run 1 disk 'model={path: merged}' training.max_steps=1
[ "$(losses again)" = "$(losses disk)" ] || die "init_from and the export begin differently"
python3 - <<'PY' || die "evaluations"
import json
run, middle, merged = (json.load(open(n + ".json")) for n in "run middle merged".split())
assert run["loss"] == merged["loss"] and run["loss"] != middle["loss"], (run, middle, merged)
assert json.load(open("merged/config.json"))["vocab_size"] == json.load(open("tiny/config.json"))["vocab_size"]
PY

# BitFit: biases alone are trained and saved
run 2 bitfit 'model={path: gpt2}' 'method.train=[bias]' training.max_steps=5
h5ls -r bitfit/final.h5/trainable | grep Dataset >tensors
[ "$(grep -c 'bias ' tensors)" = 13 ] && [ "$(wc -l <tensors)" = 13 ] || { cat tensors; die "BitFit trains other tensors"; }
[ "$("$graft" eval bitfit --data heldout.jsonl)" = \
    "$("$graft" eval gpt2 --adapter bitfit/final.h5 --data heldout.jsonl)" ] || die "BitFit's run and checkpoint differ"
"$graft" export bitfit --format merged-safetensors merged-bitfit >>export.txt
[ "$("$graft" eval bitfit --data heldout.jsonl)" = "$("$graft" eval merged-bitfit --data heldout.jsonl)" ] ||
    die "BitFit's export differs"
echo "full: ok"
