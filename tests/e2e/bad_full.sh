# Bad input of `type: full`, of models made anew and of sharding; sourced by bad_inputs.sh, which has `bad`.
# shellcheck shell=bash
model_json() { printf '{"model_type": "llama", "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4%s}' "$1" >"$2"; }
anew_bad() { # CODE TEXT FILE [key=value...]
    local code=$1 text=$2 file=$3
    shift 3
    train_bad "$code" "$text" "model={config: $file, tokenizer: tiny}" 'method={type: full}' "$@"
}
full_bad() { # CODE TEXT keys of the method
    train_bad "$1" "$2" "method={type: full, $3}"
}
model_json "" anew.json

# which model
train_bad 2 "command line: & 'config' & 'tokenizer'" 'model={config: anew.json}'
train_bad 2 "command line: & 'path' and 'config'" 'model={config: anew.json, path: tiny, tokenizer: tiny}'
train_bad 2 "'tokenizer' and 'path' & exclude" 'model={path: tiny, tokenizer: tiny}'
train_bad 2 "missing key 'path' in model" 'model={tokenizer: tiny}'
anew_bad 2 "llama-20n & did you mean 'llama-20m'" llama-20n
anew_bad 2 "model.config & sub/missing.yaml" sub/missing.yaml
anew_bad 3 "/missing.json & No such file" "$PWD/missing.json"
config_bad 2 "bad.yaml:1: & llama-20n" 's/^model: tiny/model: {config: llama-20n, tokenizer: tiny}/'
train_bad 3 "missing-tokenizer" 'model={config: anew.json, tokenizer: missing-tokenizer}' 'method={type: full}'
train_bad 3 "train.jsonl" 'model={config: anew.json, tokenizer: train.jsonl}' 'method={type: full}'

# what its file says
echo '{"model_type": "llama",' >cut.json
anew_bad 3 "cut.json & line" cut.json
echo '[1, 2]' >list.json
anew_bad 3 "list.json & object" list.json
printf 'model_type: llama\nhidden_size: [\n' >cut.yaml
anew_bad 3 "cut.yaml:" cut.yaml
printf -- '- llama\n' >list.yaml
anew_bad 3 "list.yaml & mapping" list.yaml
printf 'model_type: llama\nhidden_size: 32\nhidden_size: 64\n' >twice.yaml
anew_bad 3 "twice.yaml:3 & hidden_size" twice.yaml
echo '{"model_type": "bert"}' >bert.json
anew_bad 3 "bert.json & model_type 'bert'" bert.json
echo '{"hidden_size": 32}' >typeless.json
anew_bad 3 "typeless.json & model_type" typeless.json
model_json ', "num_key_value_head": 2' typo.json
anew_bad 3 "typo.json & num_key_value_head & did you mean 'num_key_value_heads'" typo.json
model_json ', "vocab_size": 16' small-vocabulary.json
anew_bad 3 "small-vocabulary.json & 272 ids & 16 rows" small-vocabulary.json
model_json ', "vocab_size": "many"' text.json
anew_bad 3 "text.json & 'vocab_size' must be an integer" text.json
model_json ', "num_key_value_heads": 3' heads.json
anew_bad 3 "heads.json & 4 heads cannot share 3" heads.json
model_json ', "max_position_embeddings": 0' positions.json
anew_bad 3 "positions.json & number of positions" positions.json
model_json ', "initializer_range": -0.5' range.json
anew_bad 3 "range.json & initializer_range" range.json
model_json ', "rope_theta": 0' theta.json
anew_bad 3 "theta.json & rope_theta" theta.json

# what is trained
full_bad 2 "method.train & 'norm.weigth' & nearest is 'norm.weight'" 'train: [norm.weigth]'
full_bad 2 "method.train & 'bias' names no tensor" 'train: [bias]'
full_bad 2 "method.train & not a regular expression" 'train: "(["'
full_bad 2 "method.train & matches no tensor" 'train: layers'
full_bad 2 "'train' in method & empty list" 'train: []'
full_bad 2 "unknown key 'r' in method" 'r: 8'
full_bad 3 "missing.h5" 'init_from: missing.h5'
full_bad 3 "good/final.h5 & LORA & FULL" 'init_from: good/final.h5'
train_bad 2 "two entries of the type 'full'" 'method=[{type: full}, {type: full}]'
train_bad 2 "optimizer_sharding & zero1" training.optimizer_sharding=zero3

# a full checkpoint in the place of another, and what it cannot be exported as
train 1 whole 'method={type: full, train: [norm.weight]}' training.max_steps=1 2>log || { cat log; die "a full run"; }
full_bad 3 "is missing" 'init_from: whole/final.h5'
full_bad 3 "model.norm.weight & fits nothing" 'train: [input_layernorm.weight], init_from: whole/final.h5'
bad 2 "merged-safetensors" "$graft" export whole --format peft never
bad 2 "second adapter" "$graft" eval tiny --adapter whole --adapter whole/final.h5 --data heldout.jsonl
python3 "$here/tiny_model.py" gpt2 gpt2
bad 3 "holds no weight of this model" "$graft" eval gpt2 --adapter whole/final.h5 --data heldout.jsonl
bad 2 "two entries of the type 'full'" mpirun -n 2 "$graft" train run.yaml output_dir=never 'method=[{type: full}, {type: full}]'
