# What the end-to-end tests share; sourced, never run. Needs GRAFT, the program under test.
# shellcheck shell=bash
set -euo pipefail # so no `grep -q` or `head` behind a pipe: whoever still writes into it would fail the line
exec </dev/null
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
graft=${GRAFT:?set GRAFT to the graft program}
. "$here/../../launch/mpi-env"
export OMP_WAIT_POLICY=passive # threads that spin would wait for each other on few cores
work=$(mktemp -d "${TMPDIR:-/tmp}/graft-e2e.XXXXXX")
if [ -n "${KEEP:-}" ]; then echo "working in $work"; else trap 'rm -rf "$work"' EXIT; fi
cd "$work"
python3 "$here/tiny_model.py" tiny llama

die() { echo "FAILED: $*" >&2; exit 1; }

# Forty examples of unequal length, and eight more that are held out.
python3 - <<'PY'
import json
words = "the noun another tin on there anna inner them rerun router an on a tour then".split()
def line(i):
    prompt = " ".join(words[(i * 7 + k * (i + 3)) % len(words)] for k in range(3 + i * 5 % 11))
    return json.dumps({"prompt": prompt + ":", "completion": " " + words[(i * 3) % len(words)]}) + "\n"
with open("train.jsonl", "w") as f:
    f.writelines(line(i) for i in range(40))
with open("heldout.jsonl", "w") as f:
    f.writelines(line(i) for i in range(40, 48))
PY

# A run whose steps have several micro-batches, so that every rank count up to 4 cuts them differently.
cat >run.yaml <<'YAML'
model: tiny
method:
  type: lora
  r: 4
  lora_alpha: 8
  lora_dropout: 0.1
  target_modules: all-linear
data:
  train: train.jsonl
  eval: heldout.jsonl
  max_seq_length: 64
training:
  global_batch_size: 12
  micro_batch_tokens: 64
  max_steps: 6
  learning_rate: 1.0e-2
  lr_scheduler_type: cosine
  warmup_steps: 2
  weight_decay: 0.01
  max_grad_norm: 1.0
  seed: 7
output_dir: run
logging_steps: 1
eval_steps: 3
YAML

# A model to be made anew, with the tokenizer of `tiny`.
small_model() {
    cat <<'YAML'
model_type: llama
hidden_size: 32
intermediate_size: 48
num_hidden_layers: 2
num_attention_heads: 4
num_key_value_heads: 2
max_position_embeddings: 256
tie_word_embeddings: true
YAML
}

# train RANKS OUT [key=value ...]
train() {
    local ranks=$1 out=$2
    shift 2
    mpirun -n "$ranks" "$graft" train run.yaml "output_dir=$out" "$@"
}

# same A B: the two checkpoints have the same weights and optimiser state, value by value, and the same step
same() {
    local group
    for group in /trainable /optimizer; do
        h5diff -q "$1" "$2" $group $group || { h5diff -r "$1" "$2" $group $group | sed 20q || true; die "$1 and $2 differ in $group"; }
        # h5diff is content with two empty groups; a comparison of nothing is no proof
        [ "$(h5ls -r "$1$group" | grep -c Dataset)" != 0 ] || die "$1 has no tensor in $group"
    done
}

# the losses of a run, one a line, as printed: the same bits give the same digits
losses() { sed -n 's/.*"step": *\([0-9]*\),.*"loss": *\([^,}]*\).*/\1 \2/p' "$1/metrics.jsonl"; }
