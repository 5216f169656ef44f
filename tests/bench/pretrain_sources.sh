#!/usr/bin/env bash
# A small Llama pretrained from nothing on six sources with names, three times with the same documents, seed and number of
# steps: plain documents; metadata in front with a cooldown on plain documents (MeCo); a control token for each source.
# For docs/results.md.
#
#   tests/bench/pretrain_sources.sh GRAFT PYTHON WORK_DIR [STEPS]
#
# PYTHON has PyPI `tokenizers` (tests/oracle/venv makes such a one). launch/make-sources makes the corpus.
set -euo pipefail
graft=$1 python=$2 work=$3 steps=${4:-400}
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$work"
cd "$work"
sources="bible austen foldoc jargon fortunes wordnet"
[ -e corpus/train.jsonl ] || "$here/../../launch/make-sources" corpus
[ -e tokenizer/tokenizer.json ] || "$python" "$here/train_bpe.py" --vocab 4096 tokenizer corpus/train.jsonl
"$graft" data build corpus/train.jsonl train.h5 --model tokenizer >/dev/null
for s in $sources; do grep "\"source\": \"$s\"" corpus/heldout.jsonl >"heldout-$s.jsonl"; done

cat >model.yaml <<'YAML'
model_type: llama
hidden_size: 256
intermediate_size: 704
num_hidden_layers: 8
num_attention_heads: 4
num_key_value_heads: 2
max_position_embeddings: 512
tie_word_embeddings: true
YAML
base() {
    cat <<YAML
model: {config: model, tokenizer: tokenizer}
method: {type: full}
data: {train: train.h5, max_seq_length: 384}
training:
  global_batch_tokens: 4096
  micro_batch_tokens: 2048
  max_steps: $steps
  learning_rate: 2.0e-3
  lr_scheduler_type: cosine
  warmup_ratio: 0.05
  min_lr_ratio: 0.1
  adam_beta2: 0.95
  weight_decay: 0.1
  reduction: fast
  seed: 42
logging_steps: 20
YAML
}
{ base; echo "output_dir: standard"; } >standard.yaml
{
    base
    cat <<'YAML'
output_dir: meco
conditioning:
  template:
    - {slot: metadata, text: "Source: {source}\n\n"}
    - {slot: document, text: "{text}"}
stages:
  - {share: 0.9}
  - {share: 0.1, conditioning: none}
YAML
} >meco.yaml
{
    base
    cat <<'YAML'
output_dir: control
conditioning:
  special_tokens: ["<|bible|>", "<|austen|>", "<|foldoc|>", "<|jargon|>", "<|fortunes|>", "<|wordnet|>"]
  template:
    - {slot: control, text: "<|{source}|>", dropout: 0.1}
    - {slot: document, text: "{text}"}
YAML
} >control.yaml

evaluate() { "$graft" eval "$@" --no-exact-match | sed 's/.*"loss":\([^,]*\),.*/\1/'; }
for run in standard meco control; do
    began=$(date +%s)
    "$graft" train "$run.yaml" 2>"$run.log"
    echo "$run: $(($(date +%s) - began)) s to train"
    echo "$run unconditional $(evaluate "$run" --data corpus/heldout.jsonl)"
    [ $run = standard ] && continue
    for s in $sources; do
        line="$run held-out $s: without $(evaluate "$run" --data "heldout-$s.jsonl")"
        for given in $sources; do
            [ "$given" = "$s" ] || [ "$given" = bible ] || [ "$given" = foldoc ] || continue
            line="$line, given $given $(evaluate "$run" --data "heldout-$s.jsonl" --condition "source=$given")"
        done
        echo "$line"
    done
done
for run in meco control; do
    for s in $sources; do
        echo "$run $s: $(echo '{"prompt": ""}' | "$graft" generate "$run" --condition "source=$s" --temperature 0.8 --top-p 0.9 --seed 1 \
            --max-new-tokens 48 --json)"
    done
done
