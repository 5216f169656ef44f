#!/usr/bin/env bash
# Objectives: every one with every kind of method; ranks, packing, recompute and resumes change no bit of it (packing:
# rounding alone); evaluation is the plain likelihood; exports and other commands do without the value head.
. "$(dirname "$0")/common.sh"
python3 - <<'PY'
import json
for name in "train", "heldout":
    lines = [json.loads(line) for line in open(name + ".jsonl")]
    with open(name + ".jsonl", "w") as f:
        for i, line in enumerate(lines):
            if name == "train":
                line["score"] = [0, 0.25, 0.5, 1.5][i % 4]
            f.write(json.dumps(line) + "\n")
PY

# run RANKS OUT [key=value ...]: quiet unless it fails
run() { train "$@" 2>log || { cat log; die "training $*"; }; }

unlikelihood='objective={type: unlikelihood, threshold: 0}'
reward_weighted='objective={type: reward_weighted, beta: 0.5}'
advantage_weighted='objective={type: advantage_weighted, beta: 0.5}'
run 1 mle
run 1 mle-said 'objective={type: mle}'
same mle/final.h5 mle-said/final.h5
for name in unlikelihood reward_weighted advantage_weighted; do
    objective=${!name}
    run 1 $name "$objective" save_steps=3
    [ "$(losses mle)" != "$(losses $name)" ] || die "$name changes nothing"
    run 3 $name-ranks "$objective" save_steps=3
    same $name/final.h5 $name-ranks/final.h5
    diff <(losses $name) <(losses $name-ranks) || die "losses of $name on 3 ranks"
    run 2 $name-recompute "$objective" training.gradient_checkpointing=true
    same $name/final.h5 $name-recompute/final.h5
    run 2 $name-resumed "$objective" resume_from_checkpoint=$name-ranks/checkpoint-3.h5
    same $name/final.h5 $name-resumed/final.h5

    run 1 $name-plain "$objective" method.lora_dropout=0.0
    run 1 $name-alone "$objective" method.lora_dropout=0.0 data.packing=none
    paste <(losses $name-plain) <(losses $name-alone) |
        awk '{ d = $2 - $4; if (d < 0) d = -d; if ($1 != $3 || d > 1e-5 * $2) { print; bad = 1 } } END { exit bad || NR != 6 }' ||
        die "losses of $name without packing"

    # what is evaluated during a run is what eval says of the finished one, on data without scores
    "$graft" eval $name --data heldout.jsonl >eval.json
    "$graft" export $name --format peft $name-peft >/dev/null
    "$graft" eval tiny --adapter $name-peft --data heldout.jsonl >peft.json
    python3 - $name <<'PY' || die "evaluation of $name"
import json, sys
said = [json.loads(line) for line in open(sys.argv[1] + "/metrics.jsonl")]
said = [line["eval_loss"] for line in said if "eval_loss" in line][-1]
run, peft = (json.load(open(n + ".json"))["loss"] for n in ("eval", "peft"))
assert run == peft and abs(run - said) < 1e-6, (run, peft, said)
PY
    run 2 $name-prompt "$objective" 'method={type: prompt_tuning, num_virtual_tokens: 3}' training.micro_batch_tokens=80
    run 2 $name-full "$objective" 'method={type: full}' training.optimizer_sharding=zero1
    run 1 $name-full-1 "$objective" 'method={type: full}'
    same $name-full/final.h5 $name-full-1/final.h5
    run 2 $name-several "$objective" 'method=[{type: lora, r: 2}, {type: prefix_tuning, num_virtual_tokens: 2}]' training.micro_batch_tokens=80
    for out in $name-prompt $name-full $name-several; do
        "$graft" eval $out --data heldout.jsonl >eval.json || die "eval of $out"
    done
    echo '{"prompt": "the noun:"}' | "$graft" generate $name-full --max-new-tokens 2 >/dev/null || die "generate of $name"
done

# the value head is trained, saved with its optimiser state, and taken by nobody else
for out in advantage_weighted advantage_weighted-full advantage_weighted-several; do
    h5ls -r $out/final.h5 | grep 'trainable/objective.value_head.weight Dataset {' >/dev/null || die "$out has no value head"
    h5ls -r $out/final.h5 | grep 'exp_avg/objective.value_head.weight Dataset {' >/dev/null || die "$out has no state of it"
done
h5ls -r reward_weighted/final.h5 | grep value_head && die "reward_weighted has a value head"
"$graft" export advantage_weighted-full --format merged-safetensors merged >/dev/null
grep -q value_head merged/model.safetensors && die "the export holds the value head"
run 1 onwards method.init_from=advantage_weighted/final.h5 training.max_steps=1

# what is refused: another objective in a resumed run, lines without a score
refused() { # CODE WORD key=value ...
    local code=$1 word=$2 got=0
    shift 2
    train 2 "${out:-refused}" "$@" 2>log || got=$?
    [ $got = "$code" ] || { cat log; die "exit $got, not $code, with $*"; }
    grep -q -- "$word" log || { cat log; die "no '$word' in the message with $*"; }
}
out=mle refused 2 "objective.type: mle -> reward_weighted" "$reward_weighted"
out=reward_weighted refused 2 "objective.beta: 0.5 -> 1.0" 'objective={type: reward_weighted, beta: 1}' save_steps=3
refused 3 "train.jsonl:1: missing field 'toxicity'" "$unlikelihood" objective.field=toxicity
sed -i '7s/"score": [0-9.]*/"score": "high"/' train.jsonl
refused 3 "train.jsonl:7: field 'score' is a string; it must be a number" "$unlikelihood"
echo "objectives: ok"
