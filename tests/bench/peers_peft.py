#!/usr/bin/env python3
"""One workload of tests/bench/peers as people train it today: PEFT on PyTorch, float32. Prints one line of JSON.

    peers_peft.py WORKLOAD IDS.jsonl STEPS

IDS.jsonl: one example a line, {"prompt": [ids], "completion": [ids]}. A step takes the next examples in file order;
examples of one length make a dense batch, others are padded as transformers' collators pad. Weights are random:
the time does not depend on them.
"""
import json
import resource
import sys
import time

import torch
from peft import (LoraConfig, PrefixTuningConfig, PromptTuningConfig, TaskType, get_peft_model)
from transformers import LlamaConfig, LlamaForCausalLM, get_linear_schedule_with_warmup

ALL_LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
CAUSAL = TaskType.CAUSAL_LM


def base():
    """SmolLM2-135M's shape."""
    return LlamaForCausalLM(LlamaConfig(
        vocab_size=49152, hidden_size=576, intermediate_size=1536, num_hidden_layers=30, num_attention_heads=9,
        num_key_value_heads=3, max_position_embeddings=8192, rope_theta=100000.0, rms_norm_eps=1e-5,
        tie_word_embeddings=True))


METHODS = {
    "lora": lambda m: get_peft_model(m, LoraConfig(r=8, lora_alpha=16, target_modules=ALL_LINEAR, task_type=CAUSAL)),
    "prompt": lambda m: get_peft_model(m, PromptTuningConfig(num_virtual_tokens=20, task_type=CAUSAL)),
    "prefix": lambda m: get_peft_model(m, PrefixTuningConfig(num_virtual_tokens=20, task_type=CAUSAL)),
    "full": lambda m: m,
}


def batch(rows):
    width = max(len(r["prompt"]) + len(r["completion"]) for r in rows)
    ids, mask, labels = [], [], []
    for r in rows:
        p, c = r["prompt"], r["completion"]
        pad = width - len(p) - len(c)
        ids.append(p + c + [0] * pad)
        mask.append([1] * (len(p) + len(c)) + [0] * pad)
        labels.append([-100] * len(p) + c + [-100] * pad)
    return {"input_ids": torch.tensor(ids), "attention_mask": torch.tensor(mask), "labels": torch.tensor(labels)}


def main():
    method, data = sys.argv[1].split("-")
    with open(sys.argv[2], encoding="utf-8") as f:
        rows = [json.loads(line) for line in f]
    steps, size = int(sys.argv[3]), 4 if data == "dense" else 16
    torch.manual_seed(1)
    torch.set_num_threads(2)
    model = METHODS[method](base())
    model.train()
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-4)
    schedule = get_linear_schedule_with_warmup(optimizer, 2, steps)
    seconds, tokens = [], []
    for s in range(steps):
        part = [rows[(s * size + i) % len(rows)] for i in range(size)]
        began = time.perf_counter()
        model(**batch(part)).loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad(set_to_none=True)
        seconds.append(time.perf_counter() - began)
        tokens.append(sum(len(r["prompt"]) + len(r["completion"]) for r in part))
    print(json.dumps({"seconds": seconds, "tokens": tokens,
                      "rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))


main()
