#!/usr/bin/env bash
# Every method with virtual tokens: the same bits on 1, 2, 3 and 4 ranks, after a resume on another number of ranks, and with recompute; it
# learns; its export to PEFT's format scores and generates what its checkpoint does. One row a method.
. "$(dirname "$0")/common.sh"

python3 - <<'PY' # examples with a field by which they choose
import json
for name in "train", "heldout":
    rows = [json.loads(line) for line in open(name + ".jsonl")]
    with open(name + ".jsonl", "w") as f:
        f.writelines(json.dumps(dict(row, task="abc"[i % 3])) + "\n" for i, row in enumerate(rows))
PY

options=(training.learning_rate=5.0e-2 training.warmup_steps=0 save_steps=3 save_total_limit=0 data.max_seq_length=56)

# method NAME SECTION [export option ...]
method() {
    local name=$1 section=$2 ranks
    shift 2
    OMP_NUM_THREADS=1 train 1 "$name" "method=$section" "${options[@]}" 2>log || { cat log; die "$name on one rank"; }
    for ranks in 2 3 4; do
        train $ranks "$name-$ranks" "method=$section" "${options[@]}" 2>log || { cat log; die "$name on $ranks ranks"; }
        same "$name/final.h5" "$name-$ranks/final.h5"
        diff <(losses "$name") <(losses "$name-$ranks") || die "$name: losses on $ranks ranks"
    done
    rm "$name-3"/final.h5 "$name-3"/checkpoint-*6.h5
    train 2 "$name-3" "method=$section" "${options[@]}" training.gradient_checkpointing=true 2>log ||
        { cat log; die "$name: resume"; }
    grep -q 'resumed step 3' log || { cat log; die "$name: did not go on from the checkpoint"; }
    same "$name/final.h5" "$name-3/final.h5"

    "$graft" export "$name/final.h5" --format peft "$name-peft" "$@" >/dev/null || die "$name: export"
    local condition=()
    while [ $# -gt 0 ]; do condition+=("$1" "$2"); shift 2; done
    for adapter in "$name/final.h5" "$name-peft"; do
        echo '{"prompt": "the noun:"}' | "$graft" generate tiny --adapter "$adapter" --max-new-tokens 6 --json \
            $([ "$adapter" = "$name-peft" ] || echo "${condition[@]}") || die "$name: generate with $adapter"
    done | uniq | wc -l | grep -qx 1 || die "$name: generate differs between checkpoint and export"
    python3 - "$name" <<'PY' || die "$name does not learn"
import json, sys
loss = [row["loss"] for row in map(json.loads, open(sys.argv[1] + "/metrics.jsonl")) if "loss" in row]
print(sys.argv[1], [round(x, 3) for x in loss])
assert len(loss) == 6 and loss[-1] < loss[0] - 0.02, loss
PY
}

method prompt "{type: prompt_tuning, num_virtual_tokens: 4, prompt_tuning_init: SAMPLE_VOCAB}"
method prompts "{type: prompt_tuning, num_virtual_tokens: 3, prompts: {field: task, values: [a, b, c]}}" --condition task=b
method mlp "{type: p_tuning, num_virtual_tokens: 4}"
method lstm "{type: p_tuning, num_virtual_tokens: 4, encoder_reparameterization_type: LSTM, encoder_hidden_size: 9}"
method prefix "{type: prefix_tuning, learning_rate: 0.3, num_virtual_tokens: 4, init_weights: text, init_text: the noun}"
method projection "{type: prefix_tuning, learning_rate: 0.3, num_virtual_tokens: 3, prefix_projection: true, encoder_hidden_size: 9}"
method prefixes "{type: prefix_tuning, learning_rate: 0.3, num_virtual_tokens: 2, prompts: {field: task, values: [a, b, c]}}" --condition task=c
method control "{type: control_prefix, learning_rate: 0.3, num_virtual_tokens: 3, prefix_projection: true,
    attributes: [{field: task, values: [a, b], num_virtual_tokens: 2}]}" --condition task=b # c is a missing label

# without a label there is no one prefix to export, but generation goes on as for an example without one
"$graft" export control/final.h5 --format peft none 2>log && die "exported a control prefix without a choice"
grep -q 'task (a, b)' log || { cat log; die "the fields are not listed"; }
echo '{"prompt": "the noun:"}' | "$graft" generate tiny --adapter control/final.h5 --max-new-tokens 2 >/dev/null ||
    die "generate without a label"
echo "prompts: ok"
