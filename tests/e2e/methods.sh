#!/usr/bin/env bash
# Several methods in one run, and several adapters on one base: the same bits on any number of ranks and after a resume,
# each adapter the same as trained alone on its own examples, exports one by one, and what is refused.
. "$(dirname "$0")/common.sh"

# ---- adapters: three of them, the last of which is longer; every task has lines of its own in one file ----
python3 - <<'PY'
import json
words = "the noun another tin on there anna inner them rerun router an on a tour then".split()
def line(i, task):
    prompt = " ".join(words[(i * 7 + k * (i + 3)) % len(words)] for k in range(3 + i * 5 % 11))
    return {"prompt": prompt + ":", "completion": " " + words[(i * 3 + len(task)) % len(words)], "task": task}
for name, count, first in ("mixed", 60, 0), ("mixed-eval", 12, 60):
    lines = [line(i, ("sst", "rte", "cola")[i * i % 3 if i % 5 else 2]) for i in range(first, first + count)]
    with open(name + ".jsonl", "w") as f:
        f.writelines(json.dumps(x) + "\n" for x in lines)
    for task in "sst", "rte", "cola":
        own = [x for x in lines if x["task"] == task]
        assert own, (name, task)
        with open(f"{name}-{task}.jsonl", "w") as f:
            f.writelines(json.dumps(x) + "\n" for x in own)
PY
common_part() { sed -e '/^method:/,/^data:/{/^data:/!d}' -e 's/^  train: .*/  train: '"$1"'.jsonl/' -e 's/^  eval: .*/  eval: '"$2"'.jsonl/' -e 's/global_batch_size: 12/global_batch_size: 5/' -e 's/max_steps: 6/max_steps: 10/' run.yaml; }
sst='{type: lora, r: 4, lora_alpha: 8, lora_dropout: 0.1, target_modules: all-linear}'
rte='{type: lora, r: 2, lora_alpha: 4, target_modules: [q_proj, v_proj]}'
cola='{type: lora, r: 8, target_modules: all-linear, learning_rate: 3.0e-3}'
{
    common_part mixed mixed-eval
    echo "adapters:"
    echo "  field: task"
    echo "  each:"
    echo "    - {name: sst, method: $sst}"
    echo "    - {name: rte, method: [$rte], training: {learning_rate: 2.0e-2}}"
    echo "    - {name: cola, method: $cola, training: {max_steps: 14, seed: 9}}"
} >adapters.yaml
alone() { # NAME METHOD [key=value ...]
    { common_part "mixed-$1" "mixed-eval-$1"; echo "method: $2"; } >"alone-$1.yaml"
    "$graft" train "alone-$1.yaml" "output_dir=alone-$1" "${@:3}" 2>log || { cat log; die "training $1 alone"; }
}
alone sst "$sst"
alone rte "$rte" training.learning_rate=2.0e-2
alone cola "$cola" training.max_steps=14 training.seed=9

# together A B...: every adapter under A is the one that was trained alone
together() {
    local name
    for name in sst rte cola; do
        same "alone-$name/final.h5" "$1/$name/final.h5"
        diff <(losses "alone-$name") <(losses "$1/$name") || die "losses of $name in $1"
        diff <(grep -o '"eval_loss": *[^,}]*' "alone-$name/metrics.jsonl") \
            <(grep -o '"eval_loss": *[^,}]*' "$1/$name/metrics.jsonl") || die "evaluations of $name in $1"
        [ -s "$1/$name/report.html" ] || die "$1/$name has no report"
    done
}
for ranks in 1 2 3; do
    mpirun -n $ranks "$graft" train adapters.yaml "output_dir=all-$ranks" 2>log || { cat log; die "adapters on $ranks ranks"; }
    together all-$ranks
done
grep -q '^sst: ' log && grep -q '^cola: ' log || { cat log; die "the progress does not name the adapters"; }

# killed in the middle, the adapters at different steps; each continues from its own, on another number of ranks
"$graft" train adapters.yaml output_dir=killed save_steps=3 training.max_steps=10 2>log &
pid=$!
for _ in $(seq 600); do
    [ -e killed/rte/checkpoint-6.h5 ] && break
    sleep 0.01
done
kill -9 $pid
wait $pid 2>/dev/null || true
[ ! -e killed/cola/final.h5 ] || echo "the kill came late"
rm -f killed/sst/final.h5 killed/sst/latest killed/sst/checkpoint-{6,9,10}.h5
mpirun -n 2 "$graft" train adapters.yaml output_dir=killed save_steps=3 2>log || { cat log; die "resuming after a kill"; }
grep -q 'sst: resumed step 3' log || { cat log; die "sst did not continue from its own checkpoint"; }
together killed

# stopped on request: all of them are saved
"$graft" train adapters.yaml output_dir=stopped training.max_steps=400 2>log &
pid=$!
for _ in $(seq 600); do
    [ "$(wc -l 2>/dev/null <stopped/cola/metrics.jsonl || echo 0)" -gt 2 ] && break
    sleep 0.01
done
kill -USR1 $pid
code=0
wait $pid || code=$?
[ $code = 75 ] || { cat log; die "a stopped run of adapters exits with $code, not 75"; }
for name in sst rte; do
    ls stopped/$name/checkpoint-*.h5 >/dev/null || die "the stop did not save $name"
done
# a run of one adapter is a run: its directory continues by itself
"$graft" eval stopped/rte --data mixed-eval.jsonl >eval.json
grep -q '"sequences":'"$(wc -l <mixed-eval-rte.jsonl)"',' eval.json || { cat eval.json; die "eval takes other lines than rte's"; }

# a failure of one leaves the others saved
sed -e 's/learning_rate: 2.0e-2/learning_rate: 1.0e+6, max_grad_norm: 0, warmup_steps: 0/' adapters.yaml >diverges.yaml
code=0
"$graft" train diverges.yaml output_dir=diverged training.max_steps=300 2>log || code=$?
[ $code = 4 ] || { tail -5 log; die "a diverging adapter exits with $code, not 4"; }
grep -q '^graft: error: adapter rte: ' log || { tail -3 log; die "the message does not name the adapter"; }
for name in sst cola; do
    ls diverged/$name/checkpoint-*.h5 >/dev/null || die "$name was not saved when rte failed"
done

# weights that a run trains itself are its own, also those of the run that brought the base
sst='{type: full, train: [q_proj.weight]}' rte='{type: full}' cola='[{type: lora, r: 2}, {type: p_tuning, num_virtual_tokens: 3}]'
{
    common_part mixed mixed-eval
    printf 'adapters:\n  field: task\n  each:\n'
    printf '    - {name: %s, method: %s}\n' sst "$sst" rte "$rte" cola "$cola"
} >own-weights.yaml
"$graft" train own-weights.yaml output_dir=own data.max_seq_length=60 2>log || { cat log; die "adapters that train base weights"; }
rm -rf alone-*
alone sst "$sst" data.max_seq_length=60
alone rte "$rte" data.max_seq_length=60
alone cola "$cola" data.max_seq_length=60
together own

# ---- several methods in one run ----
{
    common_part mixed mixed-eval
    echo "method:"
    echo "  - {type: lora, r: 4, lora_dropout: 0.1, target_modules: all-linear}"
    echo "  - {type: prompt_tuning, num_virtual_tokens: 3, learning_rate: 3.0e-2, prompts: {field: task, values: [sst, rte, cola]}}"
    echo "  - {type: prefix_tuning, num_virtual_tokens: 4, learning_rate: 2.0e-2}"
} >several.yaml
options=(training.max_steps=60 save_steps=20 data.max_seq_length=57)
for ranks in 1 2 3; do
    mpirun -n $ranks "$graft" train several.yaml "output_dir=several-$ranks" "${options[@]}" 2>log || { cat log; die "several methods on $ranks ranks"; }
    same several-1/final.h5 several-$ranks/final.h5
    diff <(losses several-1) <(losses several-$ranks) || die "losses of several methods on $ranks ranks"
done
for scope in lora prompt_tuning prefix_tuning; do
    h5ls -r several-1/final.h5/trainable | grep "$scope" >/dev/null || die "the checkpoint has no tensor of $scope"
done
"$graft" train several.yaml output_dir=several-stopped "${options[@]}" 2>log &
pid=$!
for _ in $(seq 600); do
    [ -s several-stopped/metrics.jsonl ] && break
    sleep 0.01
done
kill -USR1 $pid
code=0
wait $pid || code=$?
[ $code = 75 ] || { cat log; die "several methods stop with $code, not 75"; }
mpirun -n 2 "$graft" train several.yaml output_dir=several-stopped "${options[@]}" 2>log || { cat log; die "resuming several methods"; }
same several-1/final.h5 several-stopped/final.h5

# a learning rate of a method is that of the run when there is no other method
{ common_part mixed-sst mixed-eval-sst; echo "method: {type: lora, r: 4, target_modules: all-linear}"; } >rate.yaml
"$graft" train rate.yaml output_dir=rate-none 2>log || { cat log; die "the common learning rate"; }
"$graft" train rate.yaml output_dir=rate-run training.learning_rate=3.0e-3 2>log || { cat log; die "a learning rate of the run"; }
"$graft" train rate.yaml output_dir=rate-method method.learning_rate=3.0e-3 2>log || { cat log; die "a learning rate of the method"; }
paste <(losses rate-run) <(losses rate-method) |
    awk '{ d = $2 - $4; if (d < 0) d = -d; if ($1 != $3 || d > 1e-6 * $2) { print; bad = 1 } } END { exit bad || NR != 10 }' ||
    die "a method's own learning rate"
[ "$(losses rate-none | tail -n 1)" != "$(losses rate-run | tail -n 1)" ] || die "the learning rate changes nothing"

# exported one by one, and together again
"$graft" export several-1 --format peft lora-peft --method lora >/dev/null
"$graft" export several-1 --format peft prefix-peft --method prefix_tuning >/dev/null
"$graft" export several-1 --format peft prompt-peft --method prompt_tuning --condition task=rte >/dev/null
"$graft" eval several-1 --data mixed-eval-rte.jsonl >together.json
"$graft" eval tiny --adapter lora-peft --adapter prompt-peft --adapter prefix-peft --data mixed-eval-rte.jsonl --max-seq-length 64 >apart.json
"$graft" eval tiny --adapter lora-peft --adapter prefix-peft --data mixed-eval-rte.jsonl --max-seq-length 64 >without.json
python3 - <<'PY' || die "methods together and apart"
import json
together, apart, without = (json.load(open(n + ".json")) for n in "together apart without".split())
assert abs(together["loss"] - apart["loss"]) <= 1e-6 * together["loss"], (together, apart)
assert abs(without["loss"] - apart["loss"]) > 1e-3, (without, apart)
PY

# a condition stands for the field that a line does not have
named='{"prompt": "the noun:", "completion": " an", "task": "rte"}' bare='{"prompt": "the noun:", "completion": " an"}'
echo "$named" | "$graft" score tiny --adapter several-1 >a.json
echo "$bare" | "$graft" score tiny --adapter several-1 --condition task=rte >b.json
echo "$bare" | "$graft" score tiny --adapter several-1 --condition task=sst >c.json
cmp a.json b.json || die "score: a condition is not the field"
! cmp -s a.json c.json || die "score: the condition changes nothing"
echo "$named" | "$graft" generate tiny --adapter several-1 --max-new-tokens 4 --json >a.json
echo "$bare" | "$graft" generate tiny --adapter several-1 --max-new-tokens 4 --json --condition task=rte >b.json
cmp a.json b.json || die "generate: a condition is not the field"
sed 's/, "task": "rte"//' mixed-eval-rte.jsonl >bare.jsonl
"$graft" eval several-1 --data bare.jsonl --condition task=rte >conditioned.json
cmp together.json conditioned.json || die "eval: a condition is not the field"

# what is refused, and that nothing is written then
refused() { # CODE TEXT COMMAND...
    local code=$1 text=$2 got=0
    shift 2
    "$@" >out.txt 2>err.txt || got=$?
    [ $got = "$code" ] || { cat err.txt; die "exit code $got, not $code: $*"; }
    grep '^graft: error: ' err.txt | grep -qF -- "$text" || { cat err.txt; die "the message lacks '$text'"; }
    [ ! -e never ] || die "a refused run wrote its directory: $*"
}
sed 's/"rte"/"rta"/' mixed.jsonl >typo.jsonl
refused 3 "typo.jsonl:$(grep -nm1 '"rta"' typo.jsonl | cut -d: -f1): field 'task' has the unknown value 'rta'; did you mean 'rte'?" \
    "$graft" train adapters.yaml output_dir=never data.train=typo.jsonl
sed 's/, "task": "cola"//' mixed.jsonl >lacks.jsonl
refused 3 "missing field 'task'" "$graft" train adapters.yaml output_dir=never data.train=lacks.jsonl
refused 3 "no example has 'rte' in the field 'task'" "$graft" train adapters.yaml output_dir=never data.train=mixed-sst.jsonl
refused 2 "wrapped" "$graft" train adapters.yaml output_dir=never data.packing=wrapped
"$graft" export several-1 --format peft lora-2 --method lora >/dev/null
refused 2 "holds several methods: lora, prompt_tuning, prefix_tuning; export one with --method" "$graft" export several-1 --format peft never
refused 2 "'ia3' is not in several-1; it holds: lora, prompt_tuning, prefix_tuning" "$graft" export several-1 --format peft never --method ia3
refused 2 "task" "$graft" export several-1 --format peft never --method prompt_tuning
refused 2 "unknown field 'tusk'; known: 'task'" "$graft" export several-1 --format peft never --method prompt_tuning --condition tusk=rte
refused 2 "field 'task' has no value 'rta' (did you mean 'rte'?)" "$graft" export several-1 --format peft never --method prompt_tuning --condition task=rta
refused 2 "field 'task' has no value 'paraphrase'; known: 'sst', 'rte', 'cola'" "$graft" eval tiny --adapter several-1 --data bare.jsonl --condition task=paraphrase
refused 2 "'task' is not of the form field=value" "$graft" eval tiny --adapter several-1 --data bare.jsonl --condition task
refused 2 "field 'task' is given twice" "$graft" eval tiny --adapter several-1 --data bare.jsonl --condition task=sst --condition task=rte
refused 2 "no adapter here chooses by a field" "$graft" eval tiny --adapter lora-peft --data bare.jsonl --condition task=rte
refused 3 "missing field 'task'" "$graft" eval tiny --adapter several-1 --data bare.jsonl
refused 2 "lora-2: is the second adapter with a method of the type LORA" "$graft" eval tiny --adapter lora-peft --adapter lora-2 --data bare.jsonl
refused 2 "method.prefix_tuning.num_virtual_tokens: 4 -> 3" "$graft" train several.yaml output_dir=several-1 "${options[@]}" method.prefix_tuning.num_virtual_tokens=3
refused 2 "method.type: lora, prompt_tuning, prefix_tuning -> lora" "$graft" train several.yaml output_dir=several-1 "${options[@]}" 'method={type: lora, r: 4}'
echo "methods: ok"
