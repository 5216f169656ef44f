#!/usr/bin/env bash
# Recipes of conditional pretraining: each runs as it stands, on a small corpus with scores and for a few steps, and does
# what it is for. What is overridden is where things are and how long it takes.
. "$(dirname "$0")/common.sh"
recipes="$here/../../configs/recipes"
python3 - <<'PY'
import json
words = "the noun another tin on there anna inner them rerun router an on a tour then".split()
with open("corpus.jsonl", "w") as f:
    for i in range(60):
        text = " ".join(words[(i * 7 + k * (i + 3)) % len(words)] for k in range(4 + i * 5 % 11))
        score = [0, 1e-4, 6e-4, 0.5][i % 4]
        f.write(json.dumps({"text": text, "score": score, "id": f"doc{i}"}) + "\n")
PY
small=(data.train=corpus.jsonl data.eval=corpus.jsonl data.max_seq_length=128 training.micro_batch_tokens=256 eval_steps=2
       logging_steps=1 save_steps=0)
new=(model.tokenizer=tiny training.global_batch_tokens=600 training.num_train_epochs=null training.max_steps=4)

# recipe RANKS NAME OUT [key=value ...]
recipe() {
    local ranks=$1 name=$2 out=$3
    shift 3
    mpirun -n "$ranks" "$graft" train "$recipes/$name.yaml" "${small[@]}" "output_dir=$out" "$@" 2>log || { cat log; die "$name $*"; }
    [ "$(losses "$out" | wc -l)" -ge 4 ] || die "$name: too few steps"
}

# same bits on two ranks, and evaluation needs neither scores nor conditions
for name in conditional filtering unlikelihood reward-weighted advantage-weighted; do
    recipe 1 phf-$name $name "${new[@]}"
    cp log $name.log
    recipe 2 phf-$name $name-2 "${new[@]}"
    same $name/final.h5 $name-2/final.h5
    "$graft" eval $name --data corpus.jsonl >eval.json || die "eval of $name"
done
python3 - <<'PY' || die "sequences"
import re
def sequences(name):
    return int(re.search(r"sequences (\d+)", open(name + ".log").read()).group(1))
assert sequences("unlikelihood") == 60 and sequences("filtering") == 45, (sequences("unlikelihood"), sequences("filtering"))
PY
[ "$(cat ./*/metrics.jsonl | grep -c eval_loss)" -ge 20 ] || die "evaluations"
h5ls advantage-weighted/final.h5/trainable | grep value_head >/dev/null || die "no value head"

# generation asks for the good token or the bad one
for score in 0 1; do
    echo '{"text": "the noun another tin"}' | "$graft" score conditional --condition score=$score >score-$score 2>log ||
        { cat log; die "score with score=$score"; }
done
cmp -s score-0 score-1 && die "the control token changes nothing"

# a document does not see the id behind it: without a loss on the id, all is as if it were not there
few=(model=tiny training.num_train_epochs=null training.max_steps=4 training.global_batch_size=12 training.warmup_ratio=0)
recipe 1 source-aware ids "${few[@]}"
recipe 2 source-aware ids-2 "${few[@]}"
same ids/final.h5 ids-2/final.h5
text='{slot: document, text: "{text}"}'
recipe 1 source-aware unseen "${few[@]}" "conditioning.template=[$text, {slot: suffix, text: \"<url>{id}</url>\", loss: false}]"
recipe 1 source-aware none "${few[@]}" "conditioning.template=[$text]"
close() { # A B: the losses of the two runs are equal but for rounding
    paste <(losses "$1") <(losses "$2") |
        awk '{ d = $2 - $4; if (d < 0) d = -d; if ($1 != $3 || d > 2e-6 * $2) bad = 1 } END { exit bad || NR != 4 }'
}
close none unseen || { paste <(losses none) <(losses unseen); die "the text sees the id behind it"; }
close none ids && die "the id has no loss"
# the paper's other place: the id in front has a loss of its own, and the text sees it
id='text: "<url>{id}</url>"'
recipe 1 source-aware first "${few[@]}" "conditioning.template=[{slot: control, $id, loss: true}, $text]"
recipe 1 source-aware masked "${few[@]}" "conditioning.template=[{slot: control, $id, loss: false}, $text]"
close none masked && die "the text does not see the id in front of it"
close first masked && die "the id in front has no loss"
"$graft" generate ids --max-new-tokens 4 <<<'the noun' >/dev/null || die "generate"
echo "recipes: ok"
