#!/usr/bin/env python3
"""Runs Graft and PEFT in turn on the same workloads and prints ratios; tests/bench/peers calls it.

    peers.py --graft PATH --python VENV_PYTHON --model GGUF --data WORDNET_DIR --work DIR
             [--rounds 5] [--steps 8] [--threads 2] [--workloads lora-dense,lora-wordnet,...]

A round runs every workload once on either side, so that what the machine does meanwhile hits both. Speed is tokens
over seconds after the first two steps; padding and virtual tokens do not count on either side.
"""
import json
import os
import statistics
import subprocess

from peers_common import options, output

WORKLOADS = ["lora-dense", "lora-wordnet", "prompt-dense", "prefix-dense", "prompt-wordnet", "prefix-wordnet", "full-dense"]
WARM = 2
METHOD = {
    "lora": "{type: lora, r: 8, lora_alpha: 16, target_modules: all-linear}",
    "prompt": "{type: prompt_tuning, num_virtual_tokens: 20}",
    "prefix": "{type: prefix_tuning, num_virtual_tokens: 20}",
    "full": "{type: full}",
}
# Gradients of all weights are summed in place over small micro-batches: half of PEFT's memory is not reached otherwise.
MICRO = {"full": 256}
CONFIG = """model: {model}
method: {method}
data: {{train: {train}, format: {format}, max_seq_length: {length}, packing: best-fit, shuffle: false}}
training:
  global_batch_size: {size}
  micro_batch_tokens: {micro}
  reduction: {reduction}
  max_steps: {steps}
  learning_rate: 1.0e-4
  lr_scheduler_type: linear
  warmup_steps: 2
  max_grad_norm: 1.0
logging_steps: 1
output_dir: {out}
"""


def tokenize(o, texts):
    text = "".join(json.dumps(t) + "\n" for t in texts)
    run = subprocess.run([o.graft, "tokenize", o.model, "--json"], input=text, capture_output=True, text=True, check=True)
    return [json.loads(line) for line in run.stdout.splitlines()]


def make_data(o):
    """WordNet's examples as text and ids, and a text whose pieces have 256 tokens."""
    with open(os.path.join(o.data, "train.jsonl"), encoding="utf-8") as f:
        rows = [json.loads(line) for _, line in zip(range(16 * o.steps), f)]
    with open("wordnet.jsonl", "w", encoding="utf-8") as f:
        f.writelines(json.dumps({k: r[k] for k in ("prompt", "completion")}) + "\n" for r in rows)
    ids = zip(tokenize(o, [r["prompt"] for r in rows]), tokenize(o, [r["completion"] for r in rows]))
    with open("wordnet-ids.jsonl", "w", encoding="utf-8") as f:
        f.writelines(json.dumps({"prompt": p, "completion": c + [2]}) + "\n" for p, c in ids)
    with open("dense.jsonl", "w", encoding="utf-8") as f:
        text = " ".join(r["prompt"] for r in rows)
        f.write(json.dumps({"text": (text + " ") * (1 + 4 * 256 * (o.steps + 1) // (len(text) // 6))}) + "\n")
    with open("dense-ids.jsonl", "w", encoding="utf-8") as f:
        for i in range(4 * o.steps):
            f.write(json.dumps({"prompt": [], "completion": [(i * 7919 + k * 104729) % 49152 for k in range(256)]}) + "\n")


def run_graft(o, workload):
    method, data = workload.split("-")
    dense = data == "dense"
    slots = 20 if method in ("prompt", "prefix") else 0
    out = os.path.abspath("out-" + workload)
    subprocess.run(["rm", "-rf", out], check=True)
    with open(workload + ".yaml", "w", encoding="utf-8") as f:
        f.write(CONFIG.format(model=o.model, method=METHOD[method], train=os.path.abspath(data + ".jsonl"),
                              format="text" if dense else "prompt-completion", length=256, out=out,
                              size=4 if dense else 16,
                              micro=MICRO.get(method, 4 * (256 + slots) if dense else 1024),
                              reduction="fast" if method in MICRO else "canonical", steps=o.steps))
    environment = dict(os.environ, OMP_NUM_THREADS=str(o.threads))
    script = ("import resource,subprocess,sys;c=subprocess.run(sys.argv[1:],stderr=subprocess.PIPE,text=True);"
              "sys.stderr.write(c.stderr);print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss/1024);sys.exit(c.returncode)")
    rss = float(output([o.python, "-c", script, o.graft, "train", workload + ".yaml"], env=environment))
    with open(os.path.join(out, "metrics.jsonl"), encoding="utf-8") as f:
        steps = [s for s in map(json.loads, f) if "step_seconds" in s]
    tokens = [b["tokens"] - a["tokens"] for a, b in zip([{"tokens": 0}] + steps, steps)]
    return {"seconds": [s["step_seconds"] for s in steps], "tokens": tokens, "rss_mb": rss}


def run_peft(o, workload):
    here = os.path.dirname(os.path.abspath(__file__))
    environment = dict(os.environ, OMP_NUM_THREADS=str(o.threads), TOKENIZERS_PARALLELISM="false")
    out = output([o.python, os.path.join(here, "peers_peft.py"), workload, workload.split("-")[1] + "-ids.jsonl", str(o.steps)],
               env=environment)
    return json.loads(out.splitlines()[-1])


def speed(r):
    return sum(r["tokens"][WARM:]) / sum(r["seconds"][WARM:])


def main():
    o = options(steps=8, workloads=",".join(WORKLOADS))
    os.chdir(o.work)
    make_data(o)
    rows = {w: [] for w in o.workloads.split(",")}
    for k in range(o.rounds):
        for w, measured in rows.items():
            pair = run_graft(o, w), run_peft(o, w)
            measured.append(pair)
            print(f"round {k + 1} {w}: graft {speed(pair[0]):.0f} tokens/s {pair[0]['rss_mb']:.0f} MB, "
                  f"peft {speed(pair[1]):.0f} tokens/s {pair[1]['rss_mb']:.0f} MB", flush=True)
    print("| workload | Graft tokens/s | PEFT tokens/s | ratio (least to most) | peak memory, ratio |\n|---|---|---|---|---|")
    for w, measured in rows.items():
        ratio = sorted(speed(g) / speed(p) for g, p in measured)
        median = [statistics.median(speed(m[i]) for m in measured) for i in (0, 1)]
        memory = statistics.median(g["rss_mb"] / p["rss_mb"] for g, p in measured)
        print(f"| {w} | {median[0]:.0f} | {median[1]:.0f} | {statistics.median(ratio):.2f} ({ratio[0]:.2f} to {ratio[-1]:.2f}) "
              f"| {memory:.2f} |")


main()
