#!/usr/bin/env python3
"""transformers as the judge of added tokens: `graft train` with conditioning.special_tokens, `graft export` merged.

    added_tokens.py --graft PATH/graft [--keep DIR]

The exported model, loaded by transformers as any other, must give the ids of `graft tokenize` and the log-probabilities
of `graft score` on texts with the tokens, with tied and untied heads, in new rows and in the spare rows of a padded
vocabulary. The rows of the base are still the base's, bit for bit.
"""
import argparse
import json
import os
import sys
import tempfile

import peft_parity as parity  # first: it silences the libraries
import make_tiny
import numpy as np
from safetensors.numpy import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

TOKENS = ["<|good|>", "<|end|>", "<|bad|>", "  spaced out "]
CASES = {
    "llama": dict(model=dict(bias=True, bos=True, kv_heads=2, rope="llama3"), spare=0),
    "llama-tied": dict(model=dict(tied=True, head_dim=12), spare=0),
    "llama-spare": dict(model=dict(tied=True), spare=2),
    "llama-padded": dict(model=dict(bos=True), spare=9),
    "gpt2": dict(model=dict(family="gpt2", tied=True), spare=0),
}
EMBED = {"llama": "model.embed_tokens.weight", "gpt2": "transformer.wte.weight"}


def pad(base, spare):
    """Rows that no token of the tokenizer has."""
    model = AutoModelForCausalLM.from_pretrained(base)
    model.resize_token_embeddings(model.config.vocab_size + spare)
    model.save_pretrained(base)


def mark(text, i):
    return f"{TOKENS[i % 3]}{text} {TOKENS[2 - i % 3]}x"


def run_case(name, case, graft, folder):
    base, data, out, merged = (os.path.join(folder, f"{name}-{x}") for x in ("base", "data.jsonl", "run", "merged"))
    make_tiny.make(base, make_tiny.options(**case["model"]))
    if case["spare"]:
        pad(base, case["spare"])
    judge = parity.Judge(graft, name)
    with open(data, "w") as f:
        f.writelines(json.dumps(e) + "\n" for e in parity.EXAMPLES)
    config = os.path.join(folder, f"{name}.yaml")
    with open(config, "w") as f:
        f.write(f"model: {base}\nmethod: {{type: lora, r: 4, lora_alpha: 8, target_modules: all-linear}}\n"
                f"conditioning: {{special_tokens: {json.dumps(TOKENS)}}}\ndata: {{train: {data}, max_seq_length: 128}}\n"
                f"training: {{global_batch_size: 16, max_steps: 10, learning_rate: 5.0e-3}}\noutput_dir: {out}\n")
    judge.run("train", config)
    judge.run("export", out, "--format", "merged-safetensors", merged)

    tok, model = AutoTokenizer.from_pretrained(merged), parity.load_base(merged)
    texts = [e["prompt"] + e["completion"] for e in parity.EXAMPLES] + ["<|good|><|bad|>", "<|good|", "a  spaced out b"]
    ids = [json.loads(line) for line in judge.run("tokenize", merged, "--json",
                                                  stdin="".join(json.dumps(t) + "\n" for t in texts)).splitlines()]
    differ = sum(a != tok(t, add_special_tokens=False)["input_ids"] for a, t in zip(ids, texts))
    judge.check(f"ids of {len(texts)} texts that differ", differ, 0)
    known = len(AutoTokenizer.from_pretrained(base))
    judge.check("ids of the tokens", max(abs(tok.convert_tokens_to_ids(t) - known - i)
                                         for i, t in enumerate(t for t in TOKENS if t != "<|end|>")), 0)
    was = load_file(os.path.join(base, "model.safetensors"))
    now = load_file(os.path.join(merged, "model.safetensors"))
    embed = EMBED[case["model"].get("family", "llama")]
    rows = max(known + 3, len(was[embed]))
    judge.check("rows of the vocabulary", abs(len(now[embed]) - rows) + abs(model.config.vocab_size - rows), 0)
    for key in (k for k in (embed, "lm_head.weight") if k in now):
        judge.check(f"other rows of {key}", np.abs(now[key][:known] - was[key][:known]).max(), 0)
        judge.check(f"spare rows of {key}", np.abs(now[key][known + 3:] - was[key][known + 3:]).sum(), 0)
    judge.compare_scores("merged model", model, tok, judge.score(out))
    judge.compare_scores("merged model, its own scores", model, tok, judge.score(merged))
    return judge.good


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--graft", required=True)
    p.add_argument("--keep", help="work in this directory and leave everything there")
    args = p.parse_args()
    parity.EXAMPLES = [{"prompt": mark(e["prompt"], i), "completion": e["completion"] + TOKENS[2 * (i % 2)]}
                       for i, e in enumerate(parity.EXAMPLES)]
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.keep or temporary
        os.makedirs(folder, exist_ok=True)
        good = [run_case(name, case, args.graft, folder) for name, case in CASES.items()]
    sys.exit(0 if all(good) else 1)


if __name__ == "__main__":
    main()
