#!/usr/bin/env bash
# Stages: data, template and objective change at their step, everything else goes on; ranks and resumes change no bit.
. "$(dirname "$0")/common.sh"
python3 - <<'PY'
import json
words = "the noun another tin on there anna inner them rerun router an on a tour then".split()
def line(i):
    text = " ".join(words[(i * 7 + k * (i + 3)) % len(words)] for k in range(9 + i * 5 % 23))
    return json.dumps({"text": text, "source": "ab"[i % 2], "score": (i % 10) / 10}) + "\n"
with open("documents.jsonl", "w") as f:
    f.writelines(line(i) for i in range(60))
PY
sed -i -e '/^data:/,/^training:/c data: {train: documents.jsonl, max_seq_length: 64}\ntraining:' -e 's/max_steps: 6/max_steps: 10/' \
    -e '/^eval_steps/d' -e 's/^method:/conditioning: {template: [{slot: metadata, text: "{source}: "}, {slot: document, text: "{text}"}]}\nmethod:/' run.yaml

run() { train "$@" 2>log || { cat log; die "training $*"; }; }
cooldown='stages=[{share: 0.6}, {share: 0.4, conditioning: none}]'

# stages that change nothing change nothing
run 1 plain data.eval=documents.jsonl eval_steps=4
run 1 split data.eval=documents.jsonl eval_steps=4 'stages=[{share: 0.3}, {share: 0.7}]'
same plain/final.h5 split/final.h5

# the first six steps are those without stages, then the template is gone
run 1 staged "$cooldown" save_steps=4 data.eval=documents.jsonl eval_steps=4
diff <(losses plain | head -6) <(losses staged | head -6) || die "the first stage is another run"
[ "$(losses plain | sed -n 7p)" != "$(losses staged | sed -n 7p)" ] || die "the second stage is the first one"
grep -q 'share: 0.4' staged/config.yaml || die "config.yaml does not have the stages"

# on other ranks, and resumed before and behind the change
for ranks in 2 3; do
    run $ranks on-$ranks "$cooldown"
    same staged/final.h5 on-$ranks/final.h5
done
for step in 4 8; do
    run 2 from-$step "$cooldown" resume_from_checkpoint=staged/checkpoint-$step.h5
    same staged/final.h5 from-$step/final.h5
done
train 1 changed 'stages=[{share: 0.5}, {share: 0.5, conditioning: none}]' resume_from_checkpoint=staged/checkpoint-4.h5 2>log &&
    die "a run went on with other stages"
grep -q 'stages.1.share: 0.6' log || { cat log; die "message about other stages"; }

# mixture, packing and objective, too: a value head that two of three stages use
run 1 all 'stages=[{share: 0.4, objective: {type: advantage_weighted, alpha: 0.5, beta: 1}}, {share: 0.3, data: {packing: none, filter: {field: score, at_most: 0.4}}, objective: {type: unlikelihood, threshold: 0.2, alpha: 1}}, {share: 0.3, data: {train: [{path: documents.jsonl, weight: 0.5}]}, objective: {type: advantage_weighted, alpha: 0.5, beta: 2}}]' save_steps=3
run 2 all-2 'stages=[{share: 0.4, objective: {type: advantage_weighted, alpha: 0.5, beta: 1}}, {share: 0.3, data: {packing: none, filter: {field: score, at_most: 0.4}}, objective: {type: unlikelihood, threshold: 0.2, alpha: 1}}, {share: 0.3, data: {train: [{path: documents.jsonl, weight: 0.5}]}, objective: {type: advantage_weighted, alpha: 0.5, beta: 2}}]' resume_from_checkpoint=all/checkpoint-6.h5
same all/final.h5 all-2/final.h5

# a store with a damaged byte in a later stage is found before the first step
"$graft" data build documents.jsonl store.h5 --model tiny >/dev/null 2>&1
python3 - <<'PY'
data = bytearray(open("store.h5", "rb").read())
data[len(data) // 2] ^= 1
open("store.h5", "wb").write(data)
PY
set +e
train 2 damaged 'stages=[{share: 0.9}, {share: 0.1, data: {train: store.h5}}]' 2>log
[ $? = 3 ] || { cat log; die "a damaged store in a later stage"; }
set -e
[ ! -e damaged ] || die "a run with damaged data left a directory"
echo "stages: all as expected"
