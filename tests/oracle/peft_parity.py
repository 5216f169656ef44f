#!/usr/bin/env python3
"""PEFT as the judge of `graft train`, `graft export` and `graft score`.

    peft_parity.py --graft PATH/graft [--keep DIR]

For each case a tiny random model and an adapter made by PEFT; PEFT and graft both take 10 full-batch AdamW steps from
that adapter on the same 16 prompt/completion examples. Then the losses must agree to 1e-5, every trained tensor to 1e-4
of its norm, and the exported adapter and the merged model, loaded by PEFT and transformers, must give the
log-probabilities of `graft score` to 1e-4.

PEFT trains in float64. In float32 it is no judge of single elements: Adam divides a gradient by its own size, so where
the first gradient is almost zero its rounding decides the step, and PEFT in float32 is then farther from PEFT in
float64 (2e-4 of a tensor's largest element on the first case) than the tensors are allowed to differ.
"""
import argparse
import json
import os
import subprocess
import sys
import tempfile

import make_tiny  # first: it silences the libraries
import h5py
import numpy as np
import torch
from forward_parity import double_everywhere
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer, get_scheduler

STEPS, LOSS_LIMIT, TENSOR_LIMIT, LOGPROB_LIMIT = 10, 1e-5, 1e-4, 1e-4
SUBJECTS = ["river", "mountain", "oak", "beech", "copper", "glass", "hill", "lake"]
EXAMPLES = [{"prompt": f"Define: {s}\n", "completion": f" a {s} is {'not ' * (i % 3)}a thing of nature."}
            for i, s in enumerate(SUBJECTS)]
EXAMPLES += [{"prompt": f"{s}, in short:", "completion": " " + "naïve 日本語 🙂 "[: 3 + i] + s * (1 + i % 2)}
             for i, s in enumerate(SUBJECTS)]
TEXTS = [{"text": "A lake is still; a river flows."}, {"text": "naïve 日本語 🙂<|end|>\n\n  x"}]

CASES = {
    "llama": dict(
        model=dict(bias=True, bos=True, kv_heads=2, rope="llama3"),
        lora=dict(r=4, lora_alpha=8, target_modules="all-linear"),
        training=dict(learning_rate=2e-3, lr_scheduler_type="constant", weight_decay=0.0)),
    "llama-tied-bfloat16": dict(
        model=dict(tied=True, head_dim=12, dtype="bfloat16", shards=2),
        lora=dict(r=3, lora_alpha=5, target_modules=["q_proj", "v_proj", "down_proj"], use_rslora=True),
        training=dict(learning_rate=2e-3, lr_scheduler_type="cosine", warmup_steps=3, weight_decay=0.05,
                      micro_batch_tokens=130, max_grad_norm=0.5)),
    "gpt2": dict(
        model=dict(family="gpt2", tied=True),
        lora=dict(r=4, lora_alpha=8, target_modules="all-linear"),
        training=dict(learning_rate=2e-3, lr_scheduler_type="linear", warmup_steps=2, weight_decay=0.01)),
}


def tokenize(tok, example, eos):
    """What is given and what is predicted: prompt and completion tokenised apart, what the tokenizer puts in front
    once, EOS at the end when training. Of a text the first token is given."""
    if "text" in example:
        ids = tok(example["text"])["input_ids"]
        return ids[:1], ids[1:]
    prompt = tok(example["prompt"])["input_ids"]
    completion = tok(example["completion"], add_special_tokens=False)["input_ids"]
    return prompt, completion + ([tok.eos_token_id] if eos else [])


def log_probs(model, prompt, completion):
    with torch.no_grad(), double_everywhere():
        z = model(torch.tensor([prompt + completion])).logits[0]
    rows = torch.log_softmax(z, -1)[-len(completion) - 1:-1]  # virtual tokens may stand in front
    return rows.gather(1, torch.tensor(completion)[:, None])[:, 0].numpy()


def load_base(path):
    return AutoModelForCausalLM.from_pretrained(path, torch_dtype=torch.float32, attn_implementation="eager").eval().double()


def train_with_peft(model, tok, t):
    """The losses of the steps, each before its update."""
    params = [p for p in model.parameters() if p.requires_grad]
    opt = torch.optim.AdamW(params, lr=t["learning_rate"], weight_decay=t["weight_decay"])
    schedule = get_scheduler(t["lr_scheduler_type"], opt, num_warmup_steps=t.get("warmup_steps", 0),
                             num_training_steps=STEPS)
    losses = []
    batch = [tokenize(tok, e, True) for e in EXAMPLES]
    total = sum(len(c) for _, c in batch)
    for _ in range(STEPS):
        opt.zero_grad()
        loss = 0
        for prompt, completion in batch:
            labels = torch.tensor([[-100] * len(prompt) + completion])
            with double_everywhere():
                mean = model(input_ids=torch.tensor([prompt + completion]), labels=labels).loss
            part = mean * (len(completion) / total)
            part.backward()
            loss += part.item()
        torch.nn.utils.clip_grad_norm_(params, t.get("max_grad_norm", 1.0))
        opt.step()
        schedule.step()
        losses.append(loss)
    return losses


def config_text(base, adapter, data, out, case):
    lora, t = case["lora"], dict(case["training"])
    t.setdefault("micro_batch_tokens", 2048)
    lines = [f"model: {base}", "method:", "  type: lora", *(f"  {k}: {json.dumps(v)}" for k, v in lora.items()),
             f"  init_from: {adapter}", "data:", f"  train: {data}", "  max_seq_length: 128", "training:",
             f"  global_batch_size: {len(EXAMPLES)}", f"  max_steps: {STEPS}",
             *(f"  {k}: {json.dumps(v)}" for k, v in t.items()), f"output_dir: {out}", "logging_steps: 1"]
    return "\n".join(lines) + "\n"


class Judge:
    def __init__(self, graft, case):
        self.graft, self.case, self.good = graft, case, True

    def check(self, what, error, limit):
        good = bool(error <= limit)
        self.good &= good
        print(f"{'ok  ' if good else 'FAIL'} {self.case}: {what}: {error:.1e} (limit {limit:.0e})", flush=True)

    def run(self, *arguments, stdin=None):
        p = subprocess.run([self.graft, *arguments], input=stdin, capture_output=True, text=True)
        if p.returncode:
            raise SystemExit(f"FAIL {self.case}: graft {' '.join(arguments)} exits with {p.returncode}:\n{p.stderr}")
        return p.stdout

    def score(self, *arguments):
        lines = "".join(json.dumps(e, ensure_ascii=i % 2 == 0) + "\n" for i, e in enumerate(EXAMPLES + TEXTS))
        return [json.loads(line) for line in self.run("score", *arguments, stdin=lines).splitlines()]

    def compare_scores(self, what, model, tok, scores):
        lines = EXAMPLES + TEXTS
        if len(scores) != len(lines):
            raise SystemExit(f"FAIL {self.case}: {what}: {len(scores)} scores for {len(lines)} lines")
        worst = 0.0
        for example, got in zip(lines, scores):
            prompt, completion = tokenize(tok, example, False)
            if got["tokens"] != completion:
                raise SystemExit(f"FAIL {self.case}: {what}: tokens {got['tokens']}, transformers has {completion}")
            expected = log_probs(model, prompt, completion)
            worst = max(worst, np.abs(expected - got["logprobs"]).max(), abs(got["sum"] - sum(got["logprobs"])))
        self.check(what, worst, LOGPROB_LIMIT)


def compare_training(judge, model, losses, out):
    with open(os.path.join(out, "metrics.jsonl")) as f:
        logged = [row for row in map(json.loads, f) if "loss" in row]
    if len(logged) != STEPS:
        raise SystemExit(f"FAIL {judge.case}: {len(logged)} steps in metrics.jsonl, not {STEPS}")
    judge.check("losses", max(abs(a["loss"] - b) for a, b in zip(logged, losses)), LOSS_LIMIT)
    if losses[-1] > losses[0] - 0.01:
        raise SystemExit(f"FAIL {judge.case}: PEFT's loss went from {losses[0]} to {losses[-1]}: the case shows nothing")
    expected = {n.replace(".default.", "."): p.detach().numpy() for n, p in model.named_parameters() if p.requires_grad}
    with h5py.File(os.path.join(out, "final.h5")) as f:
        got = {name: np.asarray(value) for name, value in f["trainable"].items()}
    if set(got) != set(expected):
        raise SystemExit(f"FAIL {judge.case}: tensor names differ: {sorted(set(got) ^ set(expected))[:4]}")
    norm = np.linalg.norm
    judge.check("tensors", max(norm(got[n] - p) / norm(p) for n, p in expected.items()), TENSOR_LIMIT)
    worst = max(np.abs(got[n] - p).max() / np.abs(p).max() for n, p in expected.items())
    print(f"     {judge.case}: farthest element: {worst:.1e} of its tensor's largest")


def run_case(graft, name, case, folder):
    judge = Judge(graft, name)
    base, adapter, data, out, peft_out, merged = (
        os.path.join(folder, name + "-" + part) for part in ("base", "adapter", "data.jsonl", "run", "peft", "merged"))
    make_tiny.make(base, make_tiny.options(**case["model"]))
    tok = AutoTokenizer.from_pretrained(base)
    with open(data, "w") as f:
        f.writelines(json.dumps(e) + "\n" for e in EXAMPLES)
    torch.manual_seed(1)
    model = get_peft_model(load_base(base), LoraConfig(task_type="CAUSAL_LM", lora_dropout=0.0, **case["lora"])).float()
    model.save_pretrained(adapter)
    model = model.double().eval()
    config = os.path.join(folder, name + ".yaml")
    with open(config, "w") as f:
        f.write(config_text(base, adapter, data, out, case))

    losses = train_with_peft(model, tok, case["training"])
    judge.run("train", config)
    compare_training(judge, model, losses, out)

    final = os.path.join(out, "final.h5")
    judge.run("export", final, "--format", "peft", peft_out)
    judge.run("export", final, "--format", "merged-safetensors", merged)
    exported = PeftModel.from_pretrained(load_base(base), peft_out).eval().double()
    judge.compare_scores("exported adapter in PEFT", exported, tok, judge.score(base, "--adapter", peft_out))
    judge.compare_scores("checkpoint against PEFT's own training", model, tok, judge.score(base, "--adapter", final))
    # a merged model has the base's dtype: rounding of its weights is not graft's error, so both sides read them
    judge.compare_scores("merged model in transformers", load_base(merged), AutoTokenizer.from_pretrained(merged),
                         judge.score(merged))
    if case["model"].get("dtype", "float32") == "float32":
        judge.compare_scores("merged model against the adapter", exported, tok, judge.score(merged))
    return judge.good


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--graft", required=True)
    parser.add_argument("--case", choices=list(CASES), help="only this one")
    parser.add_argument("--keep", help="work in this directory and leave the files there")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        work = os.path.abspath(args.keep or temporary)
        os.makedirs(work, exist_ok=True)
        names = [args.case] if args.case else list(CASES)
        results = [run_case(os.path.abspath(args.graft), n, CASES[n], work) for n in names]
    sys.exit(0 if all(results) else 1)
