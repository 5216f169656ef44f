#!/usr/bin/env bash
# Bad input of every kind: the exit code, one message, and that the message names the file and the place. Nothing may
# crash, hang or be written.
. "$(dirname "$0")/common.sh"
python3 "$here/bad_files.py" tiny
count=0 failed=0

# bad CODE TEXT COMMAND...: exits with CODE and says `graft: error: ... TEXT ...`, once; TEXT is a fixed string, and of
# several parts joined by ' & ' all must occur
bad() {
    local code=$1 text=$2 got=0 why="" part
    shift 2
    count=$((count + 1))
    timeout 30 "$@" >out.txt 2>err.txt || got=$?
    [ $got = "$code" ] || why="exit code $got, not $code"
    [ "$(grep -c '^graft: error: ' err.txt)" = 1 ] || why="$why; not exactly one error line"
    while [ -n "$text" ]; do
        part=${text%% & *}
        grep '^graft: error: ' err.txt | grep -qF -- "$part" || why="$why; the message lacks '$part'"
        [ "$part" = "$text" ] && break
        text=${text#* & }
    done
    grep -qE 'Sanitizer|runtime error|Assertion' err.txt && why="$why; a sanitizer or an assertion spoke"
    [ ! -e never ] || why="$why; it wrote its output directory"
    [ -z "$why" ] && return 0
    failed=$((failed + 1))
    echo "FAILED: ${why#; }"
    echo "  command: $*"
    sed 's/^/  stderr: /' err.txt | head -20
    rm -rf never
}
# the same with a line of stdin
bad_input() {
    local code=$1 text=$2 line=$3
    shift 3
    # shellcheck disable=SC2016
    bad "$code" "$text" sh -c 'printf "%s\n" "$0" | "$@"' "$line" "$@"
}
train_bad() { # CODE TEXT key=value...
    local code=$1 text=$2
    shift 2
    bad "$code" "$text" "$graft" train run.yaml output_dir=never "$@"
}
config_bad() { # CODE TEXT sed-script over run.yaml
    sed -e "$3" -e 's/^output_dir: run$/output_dir: never/' run.yaml >bad.yaml
    bad "$1" "$2" "$graft" train bad.yaml
}

# ---- usage ----
bad 2 "frobnicate" "$graft" frobnicate
bad 2 "plan" "$graft" plan run.yaml
bad 2 "train" "$graft" train
bad 2 "--frob" "$graft" eval tiny --frob --data heldout.jsonl
bad 2 "--data" "$graft" eval tiny
bad 2 "--data" "$graft" eval tiny --data
bad 2 "gguf-adapter" "$graft" export x.h5 --format gguf-adaptor out
bad_input 2 "--max-new-tokens" "the" "$graft" generate tiny --max-new-tokens many
bad_input 2 "--temperature" "the" "$graft" generate tiny --temperature -1
bad_input 2 "--top-p" "the" "$graft" generate tiny --top-p 1.5

# ---- configuration ----
bad 3 "missing.yaml" "$graft" train missing.yaml
config_bad 2 "bad.yaml:5: & lora_aplha & did you mean 'lora_alpha'" 's/lora_alpha/lora_aplha/'
config_bad 2 "bad.yaml:4: & 'r'" 's/  r: 4/  r: 0/'
config_bad 2 "bad.yaml:4: & 'r'" 's/  r: 4/  r: four/'
config_bad 2 "bad.yaml:3: & qlora" 's/type: lora/type: qlora/'
config_bad 2 "bad.yaml:6: & lora_dropout" 's/lora_dropout: 0.1/lora_dropout: 1.0/'
config_bad 2 "bad.yaml:11: & max_seq_length" 's/max_seq_length: 64/max_seq_length: 1/'
config_bad 2 "micro_batch_tokens & max_seq_length" 's/micro_batch_tokens: 64/micro_batch_tokens: 32/'
config_bad 2 "bad.yaml:17: & polynomial" 's/cosine/polynomial/'
config_bad 2 "bad.yaml:16: & learning_rate" 's/1.0e-2/.nan/'
config_bad 2 "bad.yaml: & model" '/^model: tiny/d'
config_bad 2 "bad.yaml & 'seed'" 's/  seed: 7/  seed: 7\n  seed: 8/'
config_bad 2 "max_steps & num_train_epochs" 's/  seed: 7/  num_train_epochs: 2/'
config_bad 2 "bad.yaml:" 's/^method:/method: [/'
train_bad 2 "command line: & max_stepz & did you mean 'max_steps'" training.max_stepz=5
train_bad 2 "command line: & max_steps" training.max_steps=1.5
train_bad 2 "maxsteps" maxsteps
train_bad 2 "nosuch_proj" 'method.target_modules=[nosuch_proj]'
train_bad 2 "target_modules" 'method.target_modules=(['
train_bad 3 "nowhere" method.init_from=nowhere

# ---- data ----
train_bad 3 "missing.jsonl" data.train=missing.jsonl
train_bad 3 "empty.jsonl" data.train=empty.jsonl
train_bad 3 "broken.jsonl:3" data.train=broken.jsonl
train_bad 3 "nofield.jsonl:2" data.train=nofield.jsonl
train_bad 3 "number.jsonl:2" data.train=number.jsonl
train_bad 3 "utf8.jsonl:2" data.train=utf8.jsonl
train_bad 3 "long.jsonl:2" data.train=long.jsonl
train_bad 3 "tiny" data.train=tiny
bad 3 "missing.jsonl" "$graft" eval tiny --data missing.jsonl
bad 3 "broken.jsonl:3" "$graft" eval tiny --data broken.jsonl
bad_input 3 "1" "not json" "$graft" score tiny
bad_input 3 "1" '{"nothing": 1}' "$graft" score tiny
bad_input 3 "1" '[0, 99999999]' "$graft" tokenize tiny --decode
bad_input 3 "1" '{"prompt": 7}' "$graft" generate tiny

# ---- base models ----
model_bad() { # TEXT DIRECTORY
    train_bad 3 "$1" "model=$2"
}
model_bad "missing" missing
model_bad "no-config & config.json" no-config
model_bad "config.json" config-broken
model_bad "config-family & mamba" config-family
model_bad "config-activation/config.json & hidden_act" config-activation
model_bad "config-heads/config.json & heads" config-heads
model_bad "config-negative/config.json & hidden" config-negative
model_bad "config.json & num_hidden_layers" config-string
model_bad "no-weights" no-weights
model_bad "model.safetensors" st-empty
model_bad "model.safetensors" st-header-length
model_bad "model.safetensors" st-header-json
model_bad "model.safetensors" st-offsets
model_bad "model.safetensors" st-overlap
model_bad "model.safetensors" st-overflow
model_bad "model.safetensors" st-truncated
model_bad "model.norm.weight" st-missing-tensor
model_bad "model.norm.weight" st-wrong-shape
model_bad "tokenizer.json" no-tokenizer
model_bad "tokenizer.json" tok-broken
model_bad "tokenizer.json" tok-type
model_bad "tokenizer.json" tok-merge
model_bad "bad-magic.gguf" bad-magic.gguf
model_bad "truncated.gguf" truncated.gguf
model_bad "counts.gguf" counts.gguf
model_bad "string.gguf" string.gguf

# ---- adapters and checkpoints ----
train 1 good 2>log || { cat log; die "the good run"; }
"$graft" export good/final.h5 --format peft peft >/dev/null
python3 "$here/bad_files.py" tiny peft good/final.h5
adapter_bad() { bad 3 "$1" "$graft" eval tiny --adapter "$2" --data heldout.jsonl; }
adapter_bad "missing" missing
adapter_bad "peft-broken & adapter_config.json" peft-broken
adapter_bad "peft-type & VERA" peft-type
adapter_bad "peft-no-weights" peft-no-weights
adapter_bad "lora_B" peft-missing-tensor
adapter_bad "lora_A" peft-wrong-shape
adapter_bad "cut.h5" cut.h5
adapter_bad "flipped.h5" flipped.h5
adapter_bad "text.h5" text.h5
bad 3 "cut.h5" "$graft" export cut.h5 --format peft never
bad 3 "flipped.h5" "$graft" inspect flipped.h5 --verify
bad 3 "missing" "$graft" inspect missing
train_bad 3 "cut.h5" output_dir=other resume_from_checkpoint=cut.h5
train_bad 3 "missing.h5" resume_from_checkpoint=missing.h5
mkdir full
echo kept >full/config.yaml
bad 2 "full/config.yaml/peft" "$graft" export good/final.h5 --format peft full/config.yaml/peft

# ---- full fine-tuning and models made anew ----
. "$here/bad_full.sh"

# ---- under mpirun: every rank ends, with the same code and one message ----
bad 2 "lora_aplha" mpirun -n 3 "$graft" train run.yaml output_dir=never method.lora_aplha=1
bad 3 "broken.jsonl:3" mpirun -n 3 "$graft" train run.yaml output_dir=never data.train=broken.jsonl
bad 3 "model.norm.weight" mpirun -n 2 "$graft" train run.yaml output_dir=never model=st-missing-tensor
bad 3 "broken.jsonl:3" mpirun -n 2 "$graft" eval tiny --data broken.jsonl

echo "bad inputs: $count tried, $failed failed"
[ $failed = 0 ]
