#!/usr/bin/env python3
"""Graft against itself, llama.cpp and tokenizers, in turn, as ratios; tests/bench/peers calls it behind peers.py.

    ratios.py --graft PATH --python VENV_PYTHON --model GGUF --data WORDNET_DIR --work DIR [--rounds 5] [--threads 2]
              [--parts ranks,reduction,generation,tokenizing]

The venv has torch, transformers, tokenizers, gguf, and xllamacpp (llama.cpp's server as a module). Generation is greedy,
one sequence, float32 weights on both sides: what is timed is a token behind the prompt.
"""
import json
import os
import statistics
import subprocess
import sys
import time

from peers_common import options, output

CONFIG = """model: {model}
method: {{type: lora, r: 8, lora_alpha: 16, target_modules: all-linear}}
data: {{train: dense.jsonl, format: text, max_seq_length: 256, packing: best-fit, shuffle: false}}
training:
  global_batch_size: 4
  micro_batch_tokens: 256
  max_steps: 8
  learning_rate: 1.0e-4
  reduction: {reduction}
logging_steps: 1
output_dir: {out}
"""
WARM = 2
PROMPT = "The history of the city begins with"

F32 = """
import sys, numpy, gguf
r, w = gguf.GGUFReader(sys.argv[1]), gguf.GGUFWriter(sys.argv[2], "llama")
for k, f in r.fields.items():
    if k.startswith("GGUF.") or k in ("general.architecture", "general.file_type", "general.quantization_version"):
        continue
    array = f.types[0] == gguf.GGUFValueType.ARRAY
    w.add_key_value(k, f.contents(), f.types[0], f.types[-1] if array else None)
w.add_file_type(0)
for t in r.tensors:
    w.add_tensor(t.name, gguf.quants.dequantize(t.data, t.tensor_type).astype(numpy.float32))
w.write_header_to_file(), w.write_kv_data_to_file(), w.write_tensors_to_file(), w.close()
"""
LLAMA = """
import json, sys, xllamacpp
p = xllamacpp.CommonParams()
p.model.path, p.n_ctx, p.n_parallel, p.n_gpu_layers, p.cpuparams.n_threads = sys.argv[1], 512, 1, 0, int(sys.argv[2])
server = xllamacpp.Server(p)
ask = {"prompt": sys.argv[3], "max_tokens": 48, "temperature": 0, "ignore_eos": True}
for _ in range(2):
    r = server.handle_completions(ask)
print(json.dumps({"tokens_per_second": r["timings"]["predicted_per_second"], "text": r["choices"][0]["text"]}))
"""
TOKENIZE = """
import json, sys, time
from transformers import AutoTokenizer
t = AutoTokenizer.from_pretrained(sys.argv[1], gguf_file=sys.argv[2]).backend_tokenizer
texts = [json.loads(line) for line in open(sys.argv[3], encoding="utf-8")]
began = time.perf_counter()
n = sum(len(e.ids) for e in t.encode_batch(texts, add_special_tokens=False))
print(json.dumps({"seconds": time.perf_counter() - began, "tokens": n}))
"""


def train(o, ranks, threads, reduction):
    """Tokens per second behind the first steps."""
    out = f"out-{ranks}-{reduction}"
    subprocess.run(["rm", "-rf", out], check=True)
    with open(out + ".yaml", "w", encoding="utf-8") as f:
        f.write(CONFIG.format(model=o.model, reduction=reduction, out=out))
    environment = dict(os.environ, OMP_NUM_THREADS=str(threads))
    start = [] if ranks == 1 else ["mpirun", "--bind-to", "none", "-n", str(ranks)]
    output(start + [o.graft, "train", out + ".yaml"], env=environment)
    with open(os.path.join(out, "metrics.jsonl"), encoding="utf-8") as f:
        steps = [s for s in map(json.loads, f) if "step_seconds" in s]
    return (steps[-1]["tokens"] - steps[WARM - 1]["tokens"]) / sum(s["step_seconds"] for s in steps[WARM:])


def ranks(o):
    return train(o, 2, max(1, o.threads // 2), "canonical"), train(o, 1, o.threads, "canonical")


def reduction(o):
    return train(o, 2, max(1, o.threads // 2), "canonical"), train(o, 2, max(1, o.threads // 2), "fast")


def generate_seconds(o, tokens):
    began = time.perf_counter()
    output([o.graft, "generate", "f32.gguf", "--temperature", "0", "--max-new-tokens", str(tokens)], input=PROMPT + "\n",
           env=dict(os.environ, OMP_NUM_THREADS=str(o.threads)))
    return time.perf_counter() - began


def generation(o):
    """Two lengths, so that loading and the prompt fall out."""
    if not os.path.exists("f32.gguf"):
        output([o.python, "-c", F32, o.model, "f32.gguf"])
    seconds = generate_seconds(o, 136) - generate_seconds(o, 8)
    peer = json.loads(output([o.python, "-c", LLAMA, "f32.gguf", str(o.threads), PROMPT]).splitlines()[-1])
    return 128 / seconds, peer["tokens_per_second"]


def texts(o):
    with open(os.path.join(o.data, "train.jsonl"), encoding="utf-8") as f:
        prompts = [json.loads(line)["prompt"] for line in f]
    lines = [" ".join(prompts[i:i + 16]) for i in range(0, len(prompts), 16)] * 4
    with open("texts.jsonl", "w", encoding="utf-8") as f:
        f.writelines(json.dumps(t) + "\n" for t in lines)
    return sum(len(t.encode()) for t in lines)


def tokenizing(o):
    """Megabytes per second and core; Graft's time is the whole command, the peer's its call alone."""
    size = texts(o) / 1e6
    environment = dict(os.environ, OMP_NUM_THREADS="1", RAYON_NUM_THREADS="1")
    began = time.perf_counter()
    with open("texts.jsonl", encoding="utf-8") as f:
        ours = output([o.graft, "tokenize", o.model, "--json"], stdin=f, env=environment)
    seconds = time.perf_counter() - began
    peer = json.loads(output([o.python, "-c", TOKENIZE, os.path.dirname(o.model), os.path.basename(o.model), "texts.jsonl"],
                             env=environment).splitlines()[-1])
    tokens = sum(line.count(",") + 1 for line in ours.splitlines())
    if tokens != peer["tokens"]:
        print(f"tokens differ: graft {tokens}, tokenizers {peer['tokens']}", file=sys.stderr)
    return size / seconds, size / peer["seconds"]


PARTS = {
    "ranks": (ranks, "2 ranks x 1 thread / 1 rank x 2 threads, tokens/s"),
    "reduction": (reduction, "canonical / fast reduction, 2 ranks, tokens/s"),
    "generation": (generation, "greedy generation / llama.cpp, float32, tokens/s"),
    "tokenizing": (tokenizing, "tokenizing / tokenizers, MB/s of one core"),
}


def main():
    o = options(parts=",".join(PARTS))
    os.chdir(o.work)
    measured = {p: [] for p in o.parts.split(",")}
    for k in range(o.rounds):
        for p, pairs in measured.items():
            pairs.append(PARTS[p][0](o))
            print(f"round {k + 1} {p}: {pairs[-1][0]:.2f} against {pairs[-1][1]:.2f}", flush=True)
    print("| what | first | second | ratio (least to most) |\n|---|---|---|---|")
    for p, pairs in measured.items():
        ratio = sorted(a / b for a, b in pairs)
        median = [statistics.median(pair[i] for pair in pairs) for i in (0, 1)]
        print(f"| {PARTS[p][1]} | {median[0]:.1f} | {median[1]:.1f} | {statistics.median(ratio):.2f} "
              f"({ratio[0]:.2f} to {ratio[-1]:.2f}) |")


main()
