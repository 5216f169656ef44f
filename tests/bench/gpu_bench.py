#!/usr/bin/env python3
"""Training on one GPU beside PyTorch on the same card: Llamas of three sizes with random weights.

    GRAFT=build/graft tests/bench/gpu_bench.py [--quick] DIR OUT.md [135M|1B|8B ...]
    GRAFT=build/tests/graft_on_host tests/bench/gpu_bench.py --trial DIR OUT.md

LoRA of rank 16 on all linears in bfloat16 on sequences of 4096 tokens, with and without CUDA graphs; prefix and prompt
tuning; of 135M full training, too. The peer is the same model written in plain PyTorch (scaled_dot_product_attention,
fused AdamW). Numbers: tokens/s (median of the later steps), peak memory as nvidia-smi sees it, and the share of the step
that the same matrix products take in PyTorch alone. Needs PyTorch 2; models are written to DIR (8B: 16 GB).

--quick: 135M and 1B, LoRA alone. --trial: a tiny model on the CPU, for whoever changes this file; it measures nothing."""
import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import threading
import time

import torch
import torch.nn.functional as F

HERE = os.path.dirname(os.path.abspath(__file__))
LENGTH, BATCH, STEPS, WARM = 4096, 4, 14, 4
RANK = 16
# hidden, feed-forward, layers, heads, key/value heads, vocabulary, tied
SHAPES = {
    "135M": (576, 1536, 30, 9, 3, 49152, True),
    "1B": (2048, 8192, 16, 32, 8, 128256, True),
    "8B": (4096, 14336, 32, 32, 8, 128256, False),
}
TINY = (64, 96, 2, 4, 2, 512, True)
DEVICE = "cuda"
GOALS = {"135M": "250k / 500k", "1B": "60k / 95k", "8B": "12.5k / 16k"}
METHODS = {
    "LoRA": "{type: lora, r: 16, lora_alpha: 16, target_modules: all-linear}",
    "LoRA, no graphs": "{type: lora, r: 16, lora_alpha: 16, target_modules: all-linear}",
    "prefix": "{type: prefix_tuning, num_virtual_tokens: 32}",
    "prompt": "{type: prompt_tuning, num_virtual_tokens: 32}",
    "full": "{type: full}",
}


def linears(shape):
    """(name, out, in) of a layer's linears."""
    d, ff, _, heads, kv, _, _ = shape
    k = d // heads * kv
    return [("self_attn.q_proj", d, d), ("self_attn.k_proj", k, d), ("self_attn.v_proj", k, d), ("self_attn.o_proj", d, d),
            ("mlp.gate_proj", ff, d), ("mlp.up_proj", ff, d), ("mlp.down_proj", d, ff)]


def tensors(shape):
    d, _, layers, _, _, vocab, tied = shape
    yield "model.embed_tokens.weight", (vocab, d)
    for i in range(layers):
        for name, out, n in linears(shape):
            yield f"model.layers.{i}.{name}.weight", (out, n)
        yield f"model.layers.{i}.input_layernorm.weight", (d,)
        yield f"model.layers.{i}.post_attention_layernorm.weight", (d,)
    yield "model.norm.weight", (d,)
    if not tied:
        yield "lm_head.weight", (vocab, d)


def value(shape):
    return torch.ones(shape, dtype=torch.bfloat16) if len(shape) == 1 else torch.randn(shape, device=DEVICE).mul_(0.02).bfloat16()


def write_model(path, shape):
    """A Hugging Face directory; its tokenizer is the tests' tiny one, whose tokens are the first of the vocabulary."""
    d, ff, layers, heads, kv, vocab, tied = shape
    subprocess.run([sys.executable, os.path.join(HERE, "../e2e/tiny_model.py"), path], check=True)
    with open(f"{path}/config.json") as f:
        config = json.load(f)
    config |= {"hidden_size": d, "intermediate_size": ff, "num_hidden_layers": layers, "num_attention_heads": heads,
               "num_key_value_heads": kv, "vocab_size": vocab, "tie_word_embeddings": tied, "max_position_embeddings": 8192,
               "torch_dtype": "bfloat16"}
    with open(f"{path}/config.json", "w") as f:
        json.dump(config, f)
    header, at = {}, 0
    for name, dims in tensors(shape):
        size = 2 * torch.Size(dims).numel()
        header[name] = {"dtype": "BF16", "shape": list(dims), "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(f"{path}/model.safetensors", "wb") as f:
        f.write(len(text).to_bytes(8, "little") + text)
        for _, dims in tensors(shape):
            f.write(value(dims).cpu().contiguous().view(torch.uint8).numpy().tobytes())


def write_data(path):
    """Every line is longer than a sequence: all tokens count."""
    words = "the noun another tin on there anna inner them rerun router an on a tour then".split()
    with open(path, "w") as f:
        for i in range(BATCH * (STEPS + 1)):
            f.write(json.dumps({"text": " ".join(words[(i * 7 + k * k) % len(words)] for k in range(LENGTH * 3 // 2))}) + "\n")


class Peak:
    """The most memory of the card that comes into use meanwhile, in GiB; this program's own was there before."""

    def used(self):
        if DEVICE == "cpu":
            return 0.0
        done = subprocess.run(["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits"],
                              stdout=subprocess.PIPE, text=True, check=True)
        return float(done.stdout.split()[0]) / 1024

    def __enter__(self):
        self.before, self.most, self.on = self.used(), 0.0, True
        self.thread = threading.Thread(target=self.look)
        self.thread.start()
        return self

    def look(self):
        while self.on:
            self.most = max(self.most, self.used() - self.before)
            time.sleep(0.2)

    def __exit__(self, *_):
        self.on = False
        self.thread.join()


def graft(model, method, out):
    """(tokens/s, peak GiB), or what went wrong."""
    full = method == "full"
    virtual = 32 if method in ("prefix", "prompt") else 0
    with open("bench.yaml", "w") as f:
        f.write(f"""
model: {{path: {model}, dtype: {"float32" if full else "bfloat16"}}}
method: {METHODS[method]}
data: {{train: bench.jsonl, format: text, max_seq_length: {LENGTH - virtual}, packing: none}}
training: {{global_batch_size: {BATCH}, micro_batch_tokens: {LENGTH}, max_steps: {STEPS}, learning_rate: 1.0e-4,
  cuda_graph: {"false" if "no graphs" in method else "true"}}}
output_dir: {out}
logging_steps: 1
device: cuda
""")
    shutil.rmtree(out, ignore_errors=True)
    with Peak() as peak:
        done = subprocess.run([os.environ["GRAFT"], "train", "bench.yaml"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        return "failed: " + done.stdout.strip().splitlines()[-1]
    with open(f"{out}/metrics.jsonl") as f:
        speeds = [json.loads(x)["tokens_per_second"] for x in f if "tokens_per_second" in x]
    return statistics.median(speeds[WARM:]), peak.most


def rms_norm(x, d, w):
    if hasattr(F, "rms_norm"):  # PyTorch 2.4
        return F.rms_norm(x, (d,), w, 1e-5)
    return (x.float() * torch.rsqrt(x.float().square().mean(-1, keepdim=True) + 1e-5)).to(x.dtype) * w


def attention(q, k, v):
    if "enable_gqa" in (F.scaled_dot_product_attention.__doc__ or ""):  # PyTorch 2.5
        return F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
    many = q.shape[1] // k.shape[1]
    return F.scaled_dot_product_attention(q, k.repeat_interleave(many, 1), v.repeat_interleave(many, 1), is_causal=True)


def wait():
    if DEVICE == "cuda":
        torch.cuda.synchronize()


class Peer:
    """The same training in plain PyTorch."""

    def __init__(self, shape, method):
        self.shape, self.method, self.trained = shape, method, []
        full = method == "full"
        self.w = {}
        for name, dims in tensors(shape):
            w = value(dims).to(DEVICE)
            if full:
                w = w.float().requires_grad_()
                self.trained.append(w)
            self.w[name] = w
        self.ab = {}
        if method.startswith("LoRA"):
            for name, dims in list(tensors(shape)):
                if "_proj" in name:
                    a = (torch.randn(RANK, dims[1], device=DEVICE) / dims[1] ** 0.5).requires_grad_()
                    b = torch.zeros(dims[0], RANK, device=DEVICE).requires_grad_()
                    self.ab[name] = a, b
                    self.trained += [a, b]
        self.adam = torch.optim.AdamW(self.trained, lr=1e-4, fused=DEVICE == "cuda")
        d, _, _, heads, _, _, _ = shape
        angle = torch.outer(torch.arange(LENGTH, device=DEVICE).float(), 10000.0 ** (-torch.arange(0, d // heads, 2, device=DEVICE).float() / (d // heads)))
        self.cos, self.sin = torch.cat([angle.cos()] * 2, -1).bfloat16(), torch.cat([angle.sin()] * 2, -1).bfloat16()

    def linear(self, x, name):
        y = F.linear(x, self.w[name].bfloat16())
        if name in self.ab:
            a, b = self.ab[name]
            y = y + F.linear(F.linear(x, a.bfloat16()), b.bfloat16())
        return y

    def rope(self, x):
        h = x.shape[-1] // 2
        return x * self.cos + torch.cat([-x[..., h:], x[..., :h]], -1) * self.sin

    def loss(self, ids):
        d, _, layers, heads, kv, _, tied = self.shape
        norm = lambda x, name: rms_norm(x, d, self.w[name].bfloat16())
        x = F.embedding(ids, self.w["model.embed_tokens.weight"]).bfloat16()
        for i in range(layers):
            p = f"model.layers.{i}."
            h = norm(x, p + "input_layernorm.weight")
            split = lambda name, n: self.linear(h, f"{p}self_attn.{name}_proj.weight").view(1, LENGTH, n, d // heads).transpose(1, 2)
            q, k, v = self.rope(split("q", heads)), self.rope(split("k", kv)), split("v", kv)
            o = attention(q, k, v)
            x = x + self.linear(o.transpose(1, 2).reshape(1, LENGTH, d), p + "self_attn.o_proj.weight")
            h = norm(x, p + "post_attention_layernorm.weight")
            gate = F.silu(self.linear(h, p + "mlp.gate_proj.weight")) * self.linear(h, p + "mlp.up_proj.weight")
            x = x + self.linear(gate, p + "mlp.down_proj.weight")
        head = "model.embed_tokens.weight" if tied else "lm_head.weight"
        logits = F.linear(norm(x, "model.norm.weight"), self.w[head].bfloat16())
        return F.cross_entropy(logits[0, :-1].float(), ids[0, 1:])

    def step(self):
        for _ in range(BATCH):
            (self.loss(torch.randint(0, 256, (1, LENGTH), device=DEVICE)) / BATCH).backward()
        torch.nn.utils.clip_grad_norm_(self.trained, 1.0)
        self.adam.step()
        self.adam.zero_grad(set_to_none=True)


def pytorch(shape, method):
    if not hasattr(F, "scaled_dot_product_attention"):
        return "PyTorch is too old"
    if DEVICE == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    try:
        peer, times = Peer(shape, method), []
        for _ in range(STEPS):
            wait()
            begun = time.perf_counter()
            peer.step()
            wait()
            times.append(time.perf_counter() - begun)
    except torch.cuda.OutOfMemoryError:
        return "out of memory"
    finally:
        peer = None
        if DEVICE == "cuda":
            torch.cuda.empty_cache()
    return BATCH * LENGTH / statistics.median(times[WARM:]), (torch.cuda.max_memory_allocated() / 2**30 if DEVICE == "cuda" else 0.0)


def products_seconds(shape, method):
    """A sequence's products with the base's weights: forward, backward to x, and, when trained, to the weights."""
    d, _, layers, _, _, vocab, _ = shape
    total = 0.0
    for out, n, times in [(o, i, layers) for _, o, i in linears(shape)] + [(vocab, d, 1)]:
        x, w = torch.randn(LENGTH, n, device=DEVICE).bfloat16(), torch.randn(out, n, device=DEVICE).bfloat16()
        y = F.linear(x, w)
        for product in [lambda: F.linear(x, w), lambda: y @ w] + ([lambda: y.t() @ x] if method == "full" else []):
            for _ in range(3):
                product()
            wait()
            begun = time.perf_counter()
            for _ in range(10):
                product()
            wait()
            total += times * (time.perf_counter() - begun) / 10
    return total


def main():
    global DEVICE, LENGTH, STEPS, WARM
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--trial", action="store_true")
    parser.add_argument("work")
    parser.add_argument("report")
    parser.add_argument("sizes", nargs="*")
    options = parser.parse_args()
    sizes, methods = options.sizes or list(SHAPES), list(METHODS)
    if options.quick:
        sizes, methods = options.sizes or ["135M", "1B"], ["LoRA", "LoRA, no graphs"]
    if options.trial:
        DEVICE, LENGTH, STEPS, WARM = "cpu", 64, 3, 1
        SHAPES["tiny"], sizes = TINY, ["tiny"]
    elif not torch.cuda.is_available():
        print("skipped: PyTorch has no GPU here")
        return 77
    work, report = os.path.join(os.path.abspath(options.work), "bench"), os.path.abspath(options.report)
    os.environ["GRAFT"] = os.path.abspath(os.environ["GRAFT"])
    os.makedirs(work, exist_ok=True)
    os.chdir(work)
    write_data("bench.jsonl")
    bad = 0
    with open(report, "w") as f:

        def say(text):
            print(text, flush=True)
            f.write(text + "\n")
            f.flush()

        if options.trial:
            say("\n**A trial on the CPU: no measurement.**")
        name = "the CPU" if options.trial else torch.cuda.get_device_name()
        say(f"\nTraining on {name}, PyTorch {torch.__version__}, CUDA {torch.version.cuda}; {BATCH} sequences of {LENGTH} tokens a step\n")
        say("| model | method | graft tokens/s | GiB | products' share | PyTorch tokens/s | GiB | floor / goal |")
        say("|---|---|---|---|---|---|---|---|")
        for size in sizes:
            shape = SHAPES[size]
            write_model(size, shape)
            if DEVICE == "cuda":
                torch.cuda.empty_cache()
            for method in methods:
                if method == "full" and size not in ("135M", "tiny"):
                    continue
                ours = graft(size, method, f"run-{size}")
                bad += isinstance(ours, str)
                row = [ours, "", ""] if isinstance(ours, str) else [
                    f"{ours[0]:.0f}", f"{ours[1]:.1f}", f"{100 * products_seconds(shape, method) * ours[0] / LENGTH:.0f} %"]
                peer = pytorch(shape, method) if method in ("LoRA", "full") else "not measured"
                row += [peer, ""] if isinstance(peer, str) else [f"{peer[0]:.0f}", f"{peer[1]:.1f}"]
                say("| " + " | ".join([size, method, *row, GOALS.get(size, "") if method == "LoRA" else ""]) + " |")
            shutil.rmtree(size)
    return 1 if bad else 0


sys.exit(main())
