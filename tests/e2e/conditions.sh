#!/usr/bin/env bash
# Tokens that a run adds to its base, guidance, and ensembles of prompts: the same bits on any number of ranks and after
# a resume, exports, and what is refused.
. "$(dirname "$0")/common.sh"

# refused CODE PATTERN COMMAND...: exits with CODE, says PATTERN
refused() {
    local code=$1 pattern=$2 got=0
    shift 2
    "$@" >/dev/null 2>log </dev/null || got=$?
    [ "$got" = "$code" ] || { cat log; die "exit $got instead of $code: $*"; }
    grep -q -e "$pattern" log || { cat log; die "no '$pattern' from: $*"; }
}

# works COMMAND...: says what it said when it fails
works() { "$@" 2>log || { cat log; die "$*"; }; }

# ---- added tokens ----
python3 - <<'PY'
import json
with open("marked.jsonl", "w") as f:
    for i in range(40):
        mark, end = ("<|good|>", " on there") if i * i % 3 else ("<|bad|>", " inner them")
        f.write(json.dumps({"prompt": mark + "the noun " + "tin " * (i % 4), "completion": end}) + "\n")
PY
sed -e 's/train.jsonl/marked.jsonl/' -e 's/heldout.jsonl/marked.jsonl/' -e 's/max_steps: 6/max_steps: 40/' run.yaml >marked.yaml
echo 'conditioning: {special_tokens: ["<|good|>", "<|endoftext|>", "<|bad|>"]}' >>marked.yaml
for ranks in 1 2 3; do
    works mpirun -n $ranks "$graft" train marked.yaml output_dir=marked-$ranks
done
same marked-1/final.h5 marked-2/final.h5
same marked-1/final.h5 marked-3/final.h5
# the state in shares: the last rank has the rows, which lie outside of the blob of weights
works mpirun -n 3 "$graft" train marked.yaml output_dir=marked-shared training.optimizer_sharding=zero1
same marked-1/final.h5 marked-shared/final.h5
# two rows of 32 beside the LoRA; the token that the base knows has none
[ "$(h5ls marked-1/final.h5/trainable | sed -n 's/^special_tokens[^ ]* *Dataset //p')" = "{2, 32}" ] || die "rows of the added tokens"
works "$graft" train marked.yaml output_dir=halves training.max_steps=20 training.lr_scheduler_type=constant
works "$graft" train marked.yaml output_dir=whole training.lr_scheduler_type=constant
works mpirun -n 2 "$graft" train marked.yaml output_dir=halves training.lr_scheduler_type=constant
same halves/final.h5 whole/final.h5
refused 2 'the tokenizer is not the one' "$graft" train marked.yaml output_dir=halves 'conditioning.special_tokens=["<|good|>"]' training.lr_scheduler_type=constant

printf '%s\n' '<|good|>the noun tin ' '<|bad|>the noun tin ' >ask
"$graft" generate marked-1 --max-new-tokens 5 <ask >said
[ "$(head -1 said)" != "$(tail -1 said)" ] || die "the added tokens change nothing"
"$graft" generate tiny --adapter marked-1/final.h5 --max-new-tokens 5 <ask | diff said - || die "the adapter on its base"
"$graft" generate tiny --max-new-tokens 5 <ask | diff -q said - >/dev/null && die "the base knows the tokens"
"$graft" export marked-1 --format merged-safetensors merged >log 2>&1 || { cat log; die "export"; }
"$graft" generate merged --max-new-tokens 5 <ask | diff said - || die "the merged model"
[ "$("$graft" tokenize merged <<<'<|good|> a<|bad|>')" = "[272, 262, 273]" ] || die "ids of the merged model"
refused 2 'merged-safetensors' "$graft" export marked-1 --format peft peft
[ ! -e peft ] || die "a refused export left something"

# not trained: rows by the seed alone, in no checkpoint, yet the same for whoever reads it
works "$graft" train marked.yaml output_dir=still conditioning.train_special_tokens=false training.max_steps=4
h5ls still/final.h5/trainable | grep special >/dev/null && die "rows that are not trained are saved"
works "$graft" score still <marked.jsonl >one
"$graft" score tiny --adapter still <marked.jsonl | diff -q one - || die "rows that are not trained differ"
# with the whole base trained they are part of it
works "$graft" train marked.yaml output_dir=fully 'method={type: full}' training.max_steps=4
h5ls fully/final.h5/trainable | grep 'embed_tokens.weight *Dataset {274, 32}' >/dev/null || die "$(h5ls fully/final.h5/trainable)"
works "$graft" score fully <marked.jsonl >/dev/null
# another run starts with the rows of an earlier one, by text
works "$graft" train marked.yaml output_dir=second 'conditioning.special_tokens=["<|new|>", "<|bad|>"]' \
    'method={type: lora, r: 4, lora_alpha: 8, target_modules: all-linear, init_from: marked-1/final.h5}' \
    training.max_steps=1 training.learning_rate=1.0e-30
h5dump -w 400 -y -d /trainable/special_tokens.embedding -s 1,0 -c 1,32 marked-1/final.h5 | sed '/ATTRIBUTE/,$d' | sed -n '/DATA {/,$p' >row-a
h5dump -w 400 -y -d /trainable/special_tokens.embedding -s 1,0 -c 1,32 second/final.h5 | sed '/ATTRIBUTE/,$d' | sed -n '/DATA {/,$p' >row-b
[ -s row-a ] && diff row-a row-b || die "the row of <|bad|> was not taken over"

refused 2 'second adapter that adds tokens' "$graft" generate tiny --adapter marked-1 --adapter fully
refused 2 "special_tokens" "$graft" train marked.yaml output_dir=bad conditioning.special_tokens=7
refused 2 "special_tokens" "$graft" train marked.yaml output_dir=bad 'conditioning.special_tokens=[]'
refused 2 "special_tokens" "$graft" train marked.yaml output_dir=bad 'conditioning.special_tokens=[""]'
refused 2 "did you mean 'special_tokens'" "$graft" train marked.yaml output_dir=bad 'conditioning.special_token=[a]'
refused 2 "train_special_tokens" "$graft" train marked.yaml output_dir=bad conditioning.train_special_tokens=maybe
[ ! -e bad ] || die "a refused run left something"

# ---- guidance ----
python3 - <<'PY'
import json
with open("styled.jsonl", "w") as f:
    for i in range(48):
        line = {"prompt": "the noun " + "tin " * (i % 4) + ":", "completion": (" on there", " inner them", " the tin")[i % 3]}
        if i % 3 < 2:
            line["style"] = ("short", "long")[i % 3]
        f.write(json.dumps(line) + "\n")
PY
cat >styled.yaml <<'YAML'
model: tiny
method:
  type: control_prefix
  num_virtual_tokens: 2
  attributes: [{field: style, values: [short, long], num_virtual_tokens: 2}]
data: {train: styled.jsonl, max_seq_length: 64}
training: {global_batch_size: 8, micro_batch_tokens: 160, max_steps: 20, learning_rate: 3.0e-2, seed: 7}
output_dir: styled
YAML
works "$graft" train styled.yaml
printf '%s\n' 'the noun tin :' 'the noun :' 'a' >ask
guided() { "$graft" generate styled --json --max-new-tokens 8 "$@" <ask; }
for how in "" "--temperature 0.8 --seed 3 --top-p 0.9"; do
    diff <(guided $how --condition style=long) <(guided $how --condition style=long --guidance 1) || die "guidance 1"
    diff <(guided $how) <(guided $how --condition style=long --guidance 0) || die "guidance 0"
    diff -q <(guided $how --condition style=long) <(guided $how --condition style=long --guidance 3) >/dev/null && die "guidance 3 changes nothing"
done
refused 2 'needs a condition' "$graft" generate styled --guidance 2
refused 2 '--guidance must be from 0' "$graft" generate styled --guidance -1 --condition style=long
refused 2 '--guidance' "$graft" generate styled --guidance much --condition style=long

# the same with a template: its slots stand in front of one stream only
python3 - <<'PY'
import json
with open("sites.jsonl", "w") as f:
    for i in range(48):
        f.write(json.dumps({"text": "the noun " + ("on there", "inner them")[i % 2] * (1 + i % 3), "site": "ab"[i % 2]}) + "\n")
PY
cat >sites.yaml <<'YAML'
model: tiny
method: {type: lora, r: 4, target_modules: all-linear}
conditioning:
  special_tokens: ["<|a|>", "<|b|>"]
  template:
    - {slot: control, text: "<|{site}|>", loss: false, dropout: 0.3}
    - {slot: document, text: "{text}", loss: true}
data: {train: sites.jsonl, max_seq_length: 64}
training: {global_batch_size: 8, micro_batch_tokens: 160, max_steps: 20, learning_rate: 1.0e-2, seed: 7}
output_dir: sites
YAML
works "$graft" train sites.yaml
printf '%s\n' 'the noun' 'the' >ask
of_site() { "$graft" generate sites --json --max-new-tokens 8 "$@" <ask; }
diff <(of_site --condition site=a) <(of_site --condition site=a --guidance 1) || die "guidance 1 with a template"
diff <(of_site) <(of_site --condition site=a --guidance 0) || die "guidance 0 with a template"
diff <(of_site --condition site=a) <("$graft" generate sites --json --max-new-tokens 8 < <(sed 's/^/<|a|>/' ask)) || die "the slot of a site"
diff -q <(of_site --condition site=a --guidance 4) <(of_site --condition site=b --guidance 4) >/dev/null && die "guidance leads nowhere"

# ---- ensembles ----
# A base that can say everything; three authors, of whom b errs once and c always, with the answer of b
python3 - <<'PY'
import json
answers = [" on there", " inner them", " the tin", " noun"]
with open("base.jsonl", "w") as base, open("authors.jsonl", "w") as authors, open("asked.jsonl", "w") as asked:
    for i in range(12):
        author, k = "abc"[i % 3], i // 3
        wrong = author == "c" or (author == "b" and k == 2)
        prompt = "the noun " + "tin " * k + ":"
        line = {"prompt": prompt, "completion": answers[(k + wrong) % 4]}
        base.write(json.dumps(line | {"prompt": author + ": " + prompt}) + "\n")
        authors.write(json.dumps(line | {"author": author}) + "\n")
        if author == "a":
            asked.write(json.dumps(line) + "\n")
PY
cat >base.yaml <<'YAML'
model: tiny
method: {type: full}
data: {train: base.jsonl, max_seq_length: 64}
training: {global_batch_size: 12, micro_batch_tokens: 256, max_steps: 150, learning_rate: 1.0e-2}
output_dir: base
YAML
sed -e 's/model: tiny/model: able/' -e 's/base.jsonl/authors.jsonl/' -e 's/output_dir: base/output_dir: authors/' \
    -e 's/{type: full}/{type: prompt_tuning, num_virtual_tokens: 3, prompts: {field: author, values: [a, b, c]}}/' \
    -e 's/learning_rate: .*}/learning_rate: 3.0e-2}/' base.yaml >authors.yaml
works "$graft" train base.yaml
works "$graft" export base --format merged-safetensors able >/dev/null
works "$graft" train authors.yaml
match() { "$graft" eval authors --data "$@" | sed -n 's/.*"exact_match":\([^,}]*\).*/\1/p'; }
[ "$(match authors.jsonl)" = 1 ] || die "the prompts did not learn their authors: $(match authors.jsonl)"
[ "$(match asked.jsonl --condition author=a)$(match asked.jsonl --condition author=c)" = 10 ] || die "authors a and c"
# a and b outvote c, b and c outvote a
[ "$(match asked.jsonl --ensemble vote --ensemble-field author)" = 0.75 ] || die "vote"
mean=$("$graft" eval authors --data asked.jsonl --ensemble mean --ensemble-field author)
grep -q '"ensemble":"mean","labels":3,"exact_match":' <<<"$mean" || die "mean: $mean"
for kind in vote mean; do
    diff <("$graft" eval authors --data asked.jsonl --ensemble $kind --ensemble-field author) \
        <(mpirun -n 3 "$graft" eval authors --data asked.jsonl --ensemble $kind --ensemble-field author) || die "$kind on ranks"
done
refused 2 'given together' "$graft" eval authors --data asked.jsonl --ensemble mean
refused 2 'given together' "$graft" eval authors --data asked.jsonl --ensemble-field author
refused 2 'mean and vote' "$graft" eval authors --data asked.jsonl --ensemble most --ensemble-field author
refused 2 "known: 'author'" "$graft" eval authors --data asked.jsonl --ensemble mean --ensemble-field writer
refused 2 'known: none' "$graft" eval tiny --data asked.jsonl --ensemble mean --ensemble-field author
refused 2 'remove it' "$graft" eval authors --data asked.jsonl --ensemble mean --ensemble-field author --condition author=b
refused 2 'no-exact-match' "$graft" eval authors --data asked.jsonl --ensemble mean --ensemble-field author --no-exact-match
echo '{"text": "the noun"}' >plain.jsonl
refused 3 'no prompts with completions' "$graft" eval authors --data plain.jsonl --ensemble vote --ensemble-field author
# a prompt for every label, none for no label
refused 2 'leads away' "$graft" generate authors --guidance 2 --condition author=a
echo "added tokens, guidance and ensembles: as they should be"
