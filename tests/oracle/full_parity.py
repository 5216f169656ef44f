#!/usr/bin/env python3
"""PyTorch as the judge of `type: full`, transformers as the judge of its export and of models made anew.

    full_parity.py --graft PATH/graft [--keep DIR]

For each case PyTorch (float64) and graft take 10 full-batch AdamW steps from the same tiny random model on the same
examples, with the parameter groups of transformers' Trainer: no weight decay on biases and norm weights. Then the losses
must agree to 1e-5, every trained tensor to 1e-4 of its norm, and the exported model, loaded by transformers, must give
the log-probabilities of `graft score` to 1e-4. Models made anew from a configuration are exported and loaded likewise.

Epsilon is 1e-6: gradients that are zero but for rounding (the key biases of GPT-2) must not be blown up to whole steps.
"""
import argparse
import json
import os
import sys
import tempfile

import make_tiny  # first: it silences the libraries
import h5py
import numpy as np
import torch
from forward_parity import double_everywhere
from peft_parity import EXAMPLES, LOSS_LIMIT, STEPS, TENSOR_LIMIT, Judge, load_base, tokenize
from transformers import AutoTokenizer, get_scheduler
from transformers.pytorch_utils import ALL_LAYERNORM_LAYERS
from transformers.trainer_pt_utils import get_parameter_names

EPSILON = 1e-6
TRAINING = dict(learning_rate=2e-3, lr_scheduler_type="cosine", warmup_steps=2, weight_decay=0.1, max_grad_norm=1.0)
CASES = {
    "llama-tied": dict(model=dict(tied=True), train=None, names=lambda n: True),
    "llama-untied-bias": dict(model=dict(bias=True, kv_heads=2, rope="llama3"), train=None, names=lambda n: True),
    "gpt2": dict(model=dict(family="gpt2", tied=True), train=None, names=lambda n: True),
    "gpt2-bitfit": dict(model=dict(family="gpt2", tied=True), train=["bias"], names=lambda n: n.endswith(".bias")),
    "llama-norms": dict(model=dict(tied=True), train=".*norm.*", names=lambda n: "norm" in n),
}
ANEW = {
    "anew-llama": {"model_type": "llama", "hidden_size": 48, "intermediate_size": 80, "num_hidden_layers": 2,
                   "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 256,
                   "tie_word_embeddings": False},
    "anew-gpt2": {"model_type": "gpt2", "n_embd": 48, "n_layer": 2, "n_head": 4, "n_positions": 256},
}


def groups(model):
    decayed = {n for n in get_parameter_names(model, ALL_LAYERNORM_LAYERS) if "bias" not in n}
    named = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    return [{"params": [p for n, p in named if n in decayed], "weight_decay": TRAINING["weight_decay"]},
            {"params": [p for n, p in named if n not in decayed], "weight_decay": 0.0}]


def train(model, tok):
    """The losses of the steps, each before its update."""
    parts = [g for g in groups(model) if g["params"]]
    opt = torch.optim.AdamW(parts, lr=TRAINING["learning_rate"], eps=EPSILON)
    schedule = get_scheduler(TRAINING["lr_scheduler_type"], opt, num_warmup_steps=TRAINING["warmup_steps"],
                             num_training_steps=STEPS)
    batch = [tokenize(tok, e, True) for e in EXAMPLES]
    total, losses = sum(len(c) for _, c in batch), []
    for _ in range(STEPS):
        opt.zero_grad()
        loss = 0.0
        for prompt, completion in batch:
            labels = torch.tensor([[-100] * len(prompt) + completion])
            with double_everywhere():
                mean = model(input_ids=torch.tensor([prompt + completion]), labels=labels).loss
            part = mean * (len(completion) / total)
            part.backward()
            loss += part.item()
        torch.nn.utils.clip_grad_norm_([p for g in parts for p in g["params"]], TRAINING["max_grad_norm"])
        opt.step()
        schedule.step()
        losses.append(loss)
    return losses


def write_config(path, model, method, data, out, steps):
    config = {"model": model, "method": {"type": "full", **method}, "data": {"train": data, "max_seq_length": 128},
              "training": {**TRAINING, "adam_epsilon": EPSILON, "global_batch_size": len(EXAMPLES), "max_steps": steps},
              "output_dir": out}
    with open(path, "w") as f:
        json.dump(config, f)  # JSON is YAML


def compare(judge, model, losses, out):
    with open(os.path.join(out, "metrics.jsonl")) as f:
        logged = [row["loss"] for row in map(json.loads, f) if "loss" in row]
    if len(logged) != STEPS or losses[-1] > losses[0] - 0.01:
        raise SystemExit(f"FAIL {judge.case}: {len(logged)} steps, and PyTorch's loss went from {losses[0]} to {losses[-1]}")
    judge.check("losses", max(abs(a - b) for a, b in zip(logged, losses)), LOSS_LIMIT)
    linears = {n + ".weight" for n, m in model.named_modules() if type(m).__name__ == "Conv1D"}
    expected = {n: (p.T if n in linears else p).detach().numpy() for n, p in model.named_parameters() if p.requires_grad}
    with h5py.File(os.path.join(out, "final.h5")) as f:
        got = {name: np.asarray(value) for name, value in f["trainable"].items()}
    if set(got) != set(expected):
        raise SystemExit(f"FAIL {judge.case}: tensor names differ: {sorted(set(got) ^ set(expected))[:4]}")
    norm = np.linalg.norm
    judge.check("tensors", max(norm(got[n] - p) / norm(p) for n, p in expected.items()), TENSOR_LIMIT)


def run_case(graft, name, case, folder):
    judge = Judge(graft, name)
    base, config, out, merged = (os.path.join(folder, name + part) for part in ("-base", ".yaml", "-run", "-merged"))
    make_tiny.make(base, make_tiny.options(**case["model"]))
    tok = AutoTokenizer.from_pretrained(base)
    model = load_base(base)
    for n, p in model.named_parameters():
        p.requires_grad_(case["names"](n))
    write_config(config, base, {"train": case["train"]} if case["train"] else {}, "data.jsonl", out, STEPS)
    losses = train(model, tok)
    judge.run("train", config)
    compare(judge, model, losses, out)
    judge.run("export", out, "--format", "merged-safetensors", merged)
    judge.compare_scores("run against PyTorch's own training", model, tok, judge.score(out))
    judge.compare_scores("export in transformers", load_base(merged), AutoTokenizer.from_pretrained(merged),
                         judge.score(base, "--adapter", os.path.join(out, "final.h5")))
    return judge.good


def run_anew(graft, name, shape, folder):
    judge = Judge(graft, name)
    tokenizer, model, config, out, merged = (
        os.path.join(folder, name + part) for part in ("-tokenizer", "-model.json", ".yaml", "-run", "-merged"))
    make_tiny.make(tokenizer, make_tiny.options())
    with open(model, "w") as f:
        json.dump(shape, f)
    write_config(config, {"config": model, "tokenizer": tokenizer}, {}, "data.jsonl", out, 3)
    judge.run("train", config)
    judge.run("export", out, "--format", "merged-safetensors", merged)
    judge.compare_scores("export in transformers", load_base(merged), AutoTokenizer.from_pretrained(merged),
                         judge.score(out))
    return judge.good


def main(graft, folder):
    with open(os.path.join(folder, "data.jsonl"), "w") as f:
        f.writelines(json.dumps(e) + "\n" for e in EXAMPLES)
    good = [run_case(graft, name, case, folder) for name, case in CASES.items()]
    good += [run_anew(graft, name, shape, folder) for name, shape in ANEW.items()]
    return all(good)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--graft", required=True)
    parser.add_argument("--keep", help="folder for all files; default: a temporary one")
    options = parser.parse_args()
    torch.set_num_threads(1)
    program = os.path.abspath(options.graft)
    if options.keep:
        os.makedirs(options.keep, exist_ok=True)
        sys.exit(not main(program, options.keep))
    with tempfile.TemporaryDirectory() as temporary:
        sys.exit(not main(program, temporary))
