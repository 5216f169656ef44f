#!/usr/bin/env python3
"""The WordNet task trained by PEFT on the examples, the order and the settings of a Graft run, for docs/results.md.

    wordnet_peft.py --graft PATH --gguf MODEL.gguf --data DIR --work DIR [--steps 60] [--heldout 200]

DIR holds train.jsonl and heldout.jsonl of launch/make-wordnet. Both train the same initial adapter on the first
16 x steps examples in file order; token ids come from `graft tokenize`, so that tokenizers cannot differ.
Debian's torch multiplies with the reference BLAS: install libopenblas0-pthread first.
"""
import argparse
import json
import os
import subprocess
import time

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, get_linear_schedule_with_warmup

ALL_LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
BATCH, EOS = 16, 2


def options():
    p = argparse.ArgumentParser()
    p.add_argument("--graft", required=True)
    p.add_argument("--gguf", required=True)
    p.add_argument("--data", required=True)
    p.add_argument("--work", required=True)
    p.add_argument("--steps", type=int, default=60)
    p.add_argument("--heldout", type=int, default=200)
    return p.parse_args()


def read(path, n):
    with open(path, encoding="utf-8") as f:
        return [json.loads(line) for _, line in zip(range(n), f)]


def tokenize(o, texts):
    text = "".join(json.dumps(t) + "\n" for t in texts)
    run = subprocess.run([o.graft, "tokenize", o.gguf, "--json"], input=text, capture_output=True, text=True, check=True)
    return [json.loads(line) for line in run.stdout.splitlines()]


def encode(o, rows):
    return list(zip(tokenize(o, [r["prompt"] for r in rows]), tokenize(o, [r["completion"] for r in rows])))


def loss_of(model, rows):
    width = max(len(p) + len(c) + 1 for p, c in rows)
    ids, mask, labels = [], [], []
    for p, c in rows:
        seq, pad = p + c + [EOS], width - len(p) - len(c) - 1
        ids.append(seq + [0] * pad)
        mask.append([1] * len(seq) + [0] * pad)
        labels.append([-100] * len(p) + c + [EOS] + [-100] * pad)
    return model(input_ids=torch.tensor(ids), attention_mask=torch.tensor(mask), labels=torch.tensor(labels)).loss


def exact_match(model, rows):
    right = 0
    model.eval()
    with torch.no_grad():
        for p, c in rows:
            out = model.generate(input_ids=torch.tensor([p]), attention_mask=torch.ones(1, len(p), dtype=torch.long),
                                 max_new_tokens=len(c) + 1, do_sample=False, eos_token_id=EOS, pad_token_id=0)
            got = out[0][len(p):].tolist()
            right += got[:len(c)] == c and got[len(c):len(c) + 1] == [EOS]
    return right / len(rows)


def heldout_loss(model, rows):
    model.eval()
    total = weight = 0
    with torch.no_grad():
        for i in range(0, len(rows), BATCH):
            part = rows[i:i + BATCH]
            n = sum(len(c) + 1 for _, c in part)
            total, weight = total + loss_of(model, part).item() * n, weight + n
    return total / weight


def graft_eval(o, adapter):
    heldout = os.path.join(o.work, "heldout.jsonl")
    run = subprocess.run([o.graft, "eval", o.gguf, "--data", heldout, "--adapter", adapter], capture_output=True, text=True, check=True)
    return json.loads(run.stdout)


def train_graft(o, init, out):
    config = {"model": o.gguf, "method": {"type": "lora", "r": 8, "lora_alpha": 16, "target_modules": "all-linear", "init_from": init},
              "data": {"train": os.path.join(o.data, "train.jsonl"), "shuffle": False, "max_seq_length": 256},
              "training": {"global_batch_size": BATCH, "micro_batch_tokens": 512, "max_steps": o.steps, "learning_rate": 1e-3,
                           "lr_scheduler_type": "linear", "warmup_steps": 10, "max_grad_norm": 1.0},
              "output_dir": out, "logging_steps": 10}
    path = os.path.join(o.work, "run.yaml")
    with open(path, "w", encoding="utf-8") as f:
        json.dump(config, f)
    began = time.time()
    subprocess.run([o.graft, "train", path], check=True)
    return time.time() - began


def main():
    o = options()
    os.makedirs(o.work, exist_ok=True)
    torch.manual_seed(1)
    torch.set_num_threads(os.cpu_count())
    train = read(os.path.join(o.data, "train.jsonl"), BATCH * o.steps)
    heldout = read(os.path.join(o.data, "heldout.jsonl"), o.heldout)
    with open(os.path.join(o.work, "heldout.jsonl"), "w", encoding="utf-8") as f:
        f.writelines(json.dumps(r) + "\n" for r in heldout)
    base = AutoModelForCausalLM.from_pretrained(os.path.dirname(o.gguf), gguf_file=os.path.basename(o.gguf))
    # transformers 4.45 leaves the head of a GGUF without output.weight random: the format means that it is tied
    base.config.tie_word_embeddings = True
    base.tie_weights()
    model = get_peft_model(base, LoraConfig(r=8, lora_alpha=16, target_modules=ALL_LINEAR, task_type="CAUSAL_LM"))
    init = os.path.join(o.work, "init")
    model.save_pretrained(init)
    seconds = train_graft(o, init, os.path.join(o.work, "graft"))
    result = {"graft": {"seconds": seconds, **graft_eval(o, os.path.join(o.work, "graft"))}}
    print(json.dumps(result), flush=True)
    rows = encode(o, train)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3, weight_decay=0.0)
    schedule = get_linear_schedule_with_warmup(optimizer, 10, o.steps)
    model.train()
    began = time.time()
    for step in range(o.steps):
        loss = loss_of(model, rows[step * BATCH:(step + 1) * BATCH])
        loss.backward()
        torch.nn.utils.clip_grad_norm_([p for p in model.parameters() if p.requires_grad], 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        if step % 10 == 9:
            print(f"peft step {step + 1} loss {loss.item():.5f}", flush=True)
    seconds = time.time() - began
    trained = os.path.join(o.work, "peft")
    model.save_pretrained(trained)
    rows = encode(o, heldout)
    result["peft"] = {"seconds": seconds, "loss": heldout_loss(model, rows), "exact_match": exact_match(model, rows)}
    result["peft adapter in graft"] = graft_eval(o, trained)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
