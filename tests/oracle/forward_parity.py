#!/usr/bin/env python3
"""The oracle against transformers and PEFT in float64: logits, loss and every gradient.

    forward_parity.py --dump PATH/oracle_dump

Both sides compute the same random models; they must agree to 1e-9. transformers computes norms, softmax and rotary
angles in float32 whatever the model's dtype, so float32 is replaced by float64 there while a model is made and run.
"""
import argparse
import contextlib
import os
import subprocess
import sys
import tempfile

import make_tiny  # first: it silences the libraries
import numpy as np
import torch
from peft import LoraConfig, get_peft_model

LIMIT = 1e-9
LENGTHS = [5, 1, 9]
CASES = {
    "llama": dict(),
    "llama tied, biases, 3 query heads a key head": dict(tied=True, bias=True),
    "llama wide heads, llama3 rope": dict(head_dim=12, rope="llama3", positions=256),
    "llama narrow heads, linear rope, lora": dict(head_dim=2, rope="linear", bias=True),
    "llama odd sizes, one head, lora": dict(hidden=7, heads=1, kv_heads=1, head_dim=6, ff=5, layers=3),
    "gpt2": dict(family="gpt2", tied=True),
    "gpt2 untied, odd sizes, lora": dict(family="gpt2", hidden=15, heads=3, ff=11),
}


@contextlib.contextmanager
def double_everywhere():
    single, to_float, as_float = torch.float32, torch.Tensor.float, torch.float
    torch.float32 = torch.float = torch.float64
    torch.Tensor.float = torch.Tensor.double
    try:
        yield
    finally:
        torch.float32, torch.Tensor.float, torch.float = single, to_float, as_float


def config_line(o, vocab):
    if o.family == "gpt2":
        return f"gpt2 {vocab} {o.positions} {o.hidden} {o.layers} {o.heads} {o.ff} 1e-5 {int(o.tied)}"
    rope = make_tiny.ROPE[o.rope] or {}
    return " ".join(str(v) for v in (
        "llama", vocab, o.hidden, o.layers, o.heads, o.kv_heads, o.head_dim or o.hidden // o.heads, o.ff, 1e-5,
        int(o.bias), int(o.bias), int(o.tied), ["default", "linear", "llama3"].index(o.rope), 10000.0,
        rope.get("factor", 1), rope.get("low_freq_factor", 1), rope.get("high_freq_factor", 1),
        rope.get("original_max_position_embeddings", 1)))


def oracle_name(name):
    return name.replace("base_model.model.", "").replace(".base_layer.", ".").replace(".default.", ".")


def add_lora(model):
    model = get_peft_model(model, LoraConfig(r=3, lora_alpha=5, target_modules="all-linear", init_lora_weights=False),
                           autocast_adapter_dtype=False).double()
    for p in model.parameters():
        p.requires_grad_(True)  # the frozen ones, too: the oracle computes them all
    return model


def judge(model, ids, targets, weights):
    """Logits, weighted loss and gradients from transformers, one sequence at a time."""
    logits, loss = [], 0
    for s, t, w in zip(ids, targets, weights):
        z = model(torch.tensor([s])).logits[0]
        assert z.dtype == torch.float64
        logp = torch.log_softmax(z, -1)
        for row, (target, weight) in enumerate(zip(t, w)):
            loss = loss - (weight * logp[row, target] if target >= 0 else 0)
        logits.append(z.detach())
    loss.backward()
    return torch.cat(logits).numpy(), loss.item()


def run_oracle(dump, line, tensors, ids, targets, weights, vocab, folder):
    n = sum(map(len, ids))
    head = [line] + [f"tensor {name} {p.numel()} {scale!r}" for name, p, scale in tensors]
    head += [f"tokens {n} {len(ids)}", "data"]
    ends = np.cumsum([0] + [len(s) for s in ids])
    arrays = [p.detach().numpy().ravel() for _, p, _ in tensors] + [sum(ids, []), ends, sum(targets, []), sum(weights, [])]
    source, result = os.path.join(folder, "in"), os.path.join(folder, "out")
    with open(source, "wb") as f:
        f.write(("\n".join(head) + "\n").encode())
        for a in arrays:
            f.write(np.asarray(a, dtype="<f8").tobytes())
    subprocess.run([dump, source, result], check=True)
    out = np.fromfile(result, dtype="<f8")
    logits, at, grads = out[2:2 + n * vocab].reshape(n, vocab), 2 + n * vocab, {}
    for name, p, _ in tensors:
        grads[name] = out[at:at + p.numel()].reshape(p.shape)
        at += p.numel()
    assert at == len(out)
    return logits, out[0], out[1], grads


def compare(dump, case, chosen, folder):
    o = make_tiny.options(dtype="float64", **chosen)
    vocab, rng = 41, np.random.default_rng(5)
    ids = [rng.integers(0, vocab, n).tolist() for n in LENGTHS]
    targets = [rng.integers(-1, vocab, n).tolist() for n in LENGTHS]
    weights = [rng.uniform(0.2, 2, n).tolist() for n in LENGTHS]
    with double_everywhere():
        model = make_tiny.build_model(o, vocab)
        scale = 0.0
        if "lora" in case:
            model, scale = add_lora(model), 5 / 3
        tensors = [(oracle_name(n), p, scale if ".lora_A." in n else 0.0) for n, p in model.named_parameters()]
        logits, loss = judge(model, ids, targets, weights)
    got_logits, got_loss, got_weight, grads = run_oracle(dump, config_line(o, vocab), tensors, ids, targets, weights,
                                                         vocab, folder)
    total = sum(w for t, row in zip(targets, weights) for i, w in zip(t, row) if i >= 0)
    errors = {"logits": np.abs(got_logits - logits).max(), "loss": abs(got_loss - loss), "weights": abs(got_weight - total)}
    for name, p, _ in tensors:
        expected = p.grad.numpy()
        errors["gradient of " + name] = np.abs(grads[name] - expected).max() / max(1, np.abs(expected).max())
    worst = max(errors, key=errors.get)
    good = errors[worst] <= LIMIT
    print(f"{'ok  ' if good else 'FAIL'} {case}: largest difference {errors[worst]:.1e} ({worst}), "
          f"logits up to {np.abs(logits).max():.1f}, {len(tensors)} tensors")
    return good


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dump", required=True)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        results = [compare(args.dump, case, chosen, folder) for case, chosen in CASES.items()]
    sys.exit(0 if all(results) else 1)
