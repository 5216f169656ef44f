#!/usr/bin/env python3
"""PEFT as the judge of prefixes: `graft train`, `graft export`, `graft score`.

    peft_prefix.py --graft PATH/graft [--keep DIR]

As peft_parity.py does for LoRA: PEFT and graft both take 10 full-batch AdamW steps from the same initial tensors. Losses,
tensors (a projection's own ones, too) and the log-probabilities of what was exported must agree; and the adapter that
PEFT saves after its own training is read by `graft score`.
"""
import argparse
import json
import os
import sys
import tempfile

import peft_parity as parity  # first: it silences the libraries
import h5py
import make_tiny
import numpy as np
import torch
from peft import PeftModel, PrefixTuningConfig, get_peft_model
from safetensors.numpy import save_file
from transformers import AutoTokenizer

CONSTANT = dict(learning_rate=1e-2, lr_scheduler_type="constant", weight_decay=0.0)
CASES = {
    "prefix-llama": dict(
        model=dict(bias=True, bos=True, kv_heads=2, rope="llama3"), prefix=dict(num_virtual_tokens=5), training=CONSTANT),
    "prefix-gpt2": dict(
        model=dict(family="gpt2", tied=True), prefix=dict(num_virtual_tokens=3),
        training=dict(learning_rate=1e-2, lr_scheduler_type="linear", warmup_steps=2, weight_decay=0.01,
                      micro_batch_tokens=160)),
    "projection-llama": dict(
        model=dict(kv_heads=1, tied=True),
        prefix=dict(num_virtual_tokens=4, prefix_projection=True, encoder_hidden_size=7),
        training=dict(CONSTANT, gradient_checkpointing=True, micro_batch_tokens=160)),
    "projection-gpt2": dict(
        model=dict(family="gpt2"), prefix=dict(num_virtual_tokens=6, prefix_projection=True),
        training=dict(learning_rate=3e-3, lr_scheduler_type="cosine", warmup_steps=3, max_grad_norm=0.5, weight_decay=0.0)),
}


def tensors(model, projected):
    """What is trained, under graft's names: PEFT's own, but the table of the direct form as PEFT saves it."""
    named = {n: p.detach().float().numpy().copy() for n, p in model.named_parameters() if p.requires_grad}
    return named if projected else {"prompt_embeddings": named["prompt_encoder.default.embedding.weight"]}


def write_start(folder, model, projected):
    """PEFT itself saves a projection folded, from which no training can start."""
    os.makedirs(folder)
    save_file(tensors(model, projected), os.path.join(folder, "adapter_model.safetensors"))
    with open(os.path.join(folder, "adapter_config.json"), "w") as f:
        json.dump({"peft_type": "PREFIX_TUNING"}, f)


def config_text(base, start, data, out, case):
    t = dict(case["training"])
    t.setdefault("micro_batch_tokens", 2048)
    lines = [f"model: {base}", "method:", "  type: prefix_tuning",
             *(f"  {k}: {json.dumps(v)}" for k, v in case["prefix"].items()), f"  init_from: {start}", "data:",
             f"  train: {data}", "  max_seq_length: 96", "training:", f"  global_batch_size: {len(parity.EXAMPLES)}",
             f"  max_steps: {parity.STEPS}", *(f"  {k}: {json.dumps(v)}" for k, v in t.items()), f"output_dir: {out}",
             "logging_steps: 1"]
    return "\n".join(lines) + "\n"


def compare_training(judge, expected, losses, out):
    with open(os.path.join(out, "metrics.jsonl")) as f:
        logged = [row for row in map(json.loads, f) if "loss" in row]
    if len(logged) != parity.STEPS:
        raise SystemExit(f"FAIL {judge.case}: {len(logged)} steps in metrics.jsonl, not {parity.STEPS}")
    judge.check("losses", max(abs(a["loss"] - b) for a, b in zip(logged, losses)), parity.LOSS_LIMIT)
    if losses[-1] > losses[0] - 0.01:
        raise SystemExit(f"FAIL {judge.case}: PEFT's loss went from {losses[0]} to {losses[-1]}: the case shows nothing")
    with h5py.File(os.path.join(out, "final.h5")) as f:
        got = {name: np.asarray(value) for name, value in f["trainable"].items()}
    if set(got) != set(expected):
        raise SystemExit(f"FAIL {judge.case}: tensor names differ: {sorted(set(got) ^ set(expected))}")
    norm = np.linalg.norm
    judge.check("tensors", max(norm(got[n] - p) / norm(p) for n, p in expected.items()), parity.TENSOR_LIMIT)


def compare_all(judge, model, tok, base, config, out, training, trained, what):
    """Both train; then tensors, losses and the scores of the export, the checkpoint and PEFT's own file."""
    losses = parity.train_with_peft(model, tok, training)
    judge.run("train", config)
    compare_training(judge, trained(), losses, out)
    exported, saved, final = out + "-exported", out + "-saved", os.path.join(out, "final.h5")
    judge.run("export", final, "--format", "peft", exported)
    loaded = PeftModel.from_pretrained(parity.load_base(base), exported).eval().double()
    judge.compare_scores(f"exported {what} in PEFT", loaded, tok, judge.score(base, "--adapter", exported))
    judge.compare_scores("checkpoint against PEFT's own training", model, tok, judge.score(base, "--adapter", final))
    model.save_pretrained(saved)
    judge.compare_scores("PEFT's own file in graft", model, tok, judge.score(base, "--adapter", saved))


def main(doc, cases, run_case):
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--graft", required=True)
    parser.add_argument("--case", choices=list(cases), help="only this one")
    parser.add_argument("--keep", help="work in this directory and leave the files there")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        work = os.path.abspath(args.keep or temporary)
        os.makedirs(work, exist_ok=True)
        names = [args.case] if args.case else list(cases)
        results = [run_case(os.path.abspath(args.graft), n, cases[n], work) for n in names]
    sys.exit(0 if all(results) else 1)


def run_case(graft, name, case, folder):
    judge = parity.Judge(graft, name)
    base, start, data, out = (os.path.join(folder, name + "-" + part) for part in ("base", "start", "data.jsonl", "run"))
    make_tiny.make(base, make_tiny.options(**case["model"]))
    tok = AutoTokenizer.from_pretrained(base)
    with open(data, "w") as f:
        f.writelines(json.dumps(e) + "\n" for e in parity.EXAMPLES)
    torch.manual_seed(1)
    projected = case["prefix"].get("prefix_projection", False)
    model = get_peft_model(parity.load_base(base), PrefixTuningConfig(task_type="CAUSAL_LM", **case["prefix"]))
    write_start(start, model.float(), projected)
    model = model.double().eval()
    config = os.path.join(folder, name + ".yaml")
    with open(config, "w") as f:
        f.write(config_text(base, start, data, out, case))

    compare_all(judge, model, tok, base, config, out, case["training"], lambda: tensors(model, projected), "prefix")
    return judge.good


if __name__ == "__main__":
    main(__doc__, CASES, run_case)
