#!/usr/bin/env bash
# LoRA, prefix tuning, prompt tuning and P-tuning side by side on WordNet's classes, for docs/results.md: held-out loss and
# exact match of the base and after training each recipe.
#
#   tests/bench/wordnet_methods.sh GRAFT MODEL DATA_DIR WORK_DIR [STEPS]
#
# DATA_DIR holds train.jsonl and heldout.jsonl of launch/make-wordnet. All take the same number of steps (120).
set -euo pipefail
graft=$1 model=$2 data=$3 work=$4 steps=${5:-120}
recipes=$(cd "$(dirname "$0")/../../configs/recipes" && pwd)
mkdir -p "$work"
echo "base $("$graft" eval "$model" --data "$data/heldout.jsonl")"
for method in lora prefix prompt p-tuning; do
    began=$(date +%s)
    "$graft" train "$recipes/wordnet-$method.yaml" "model=$model" "data.train=$data/train.jsonl" \
        "output_dir=$work/$method" "training.max_steps=$steps" logging_steps=20 2>"$work/$method.log"
    seconds=$(($(date +%s) - began))
    echo "$method $seconds s $("$graft" eval "$model" --adapter "$work/$method/final.h5" --data "$data/heldout.jsonl")"
done
