#!/usr/bin/env python3
"""Whole runs of every method on a tiny Llama and a tiny GPT-2, CPU against CUDA.

    GRAFT=build/graft tests/gpu/runs.py DIR one|nccl [METHOD ...]

one: on the device in float32 and bfloat16, losses beside the CPU's, and the same digits when run again and with CUDA
graphs off. nccl: two ranks that share a GPU, which NCCL takes for two machines (NCCL_HOSTID); the same digits as one rank.
DIR is for files that are made anew. Several runs share the device at a time. Standard library alone."""
import concurrent.futures
import json
import os
import shutil
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
STEPS = 4
# largest relative difference of a step's loss; kernels on the host are off by 2e-7 and 5e-4 (tests/cuda_on_host)
LIMIT = {"float32": 5e-5, "bfloat16": 5e-3}
METHODS = {
    "lora": "{type: lora, r: 4, lora_alpha: 8, lora_dropout: 0.1, target_modules: all-linear}",
    "prompt": "{type: prompt_tuning, num_virtual_tokens: 5}",
    "p-tuning": "{type: p_tuning, num_virtual_tokens: 4, encoder_reparameterization_type: MLP, encoder_hidden_size: 16}",
    "p-tuning-lstm": "{type: p_tuning, num_virtual_tokens: 4, encoder_reparameterization_type: LSTM, encoder_hidden_size: 16}",
    "prefix": "{type: prefix_tuning, num_virtual_tokens: 6}",
    "control-prefix": "{type: control_prefix, num_virtual_tokens: 3, attributes: [{field: task, values: [a, b], num_virtual_tokens: 2}]}",
    "demix": "{type: demix, domains: {field: task, values: [a, b]}}",
    "full": "{type: full}",
    "two": "[{type: lora, r: 2, target_modules: [q_proj, v_proj]}, {type: prefix_tuning, num_virtual_tokens: 3}]",
}
WORDS = "the noun another tin on there anna inner them rerun router an on a tour then".split()
CONFIG = """
model: {{path: {model}, dtype: {dtype}}}
method: {method}
data: {{train: train.jsonl, max_seq_length: 64}}
training: {{global_batch_size: 12, micro_batch_tokens: 72, max_steps: {steps}, learning_rate: 1.0e-2, max_grad_norm: 1.0, seed: 7}}
output_dir: {out}
logging_steps: 1
"""


def example(i):
    prompt = " ".join(WORDS[(i * 7 + k * (i + 3)) % len(WORDS)] for k in range(3 + i * 5 % 11))
    return json.dumps({"prompt": prompt + ":", "completion": " " + WORDS[i * 3 % len(WORDS)],
                       "task": "ab"[i % 2]}) + "\n"


def run(model, method, out, dtype, arguments, launcher=()):
    """The losses of a run, as printed; a text that says why where there are none."""
    file = out + ".yaml"
    with open(file, "w") as f:
        f.write(CONFIG.format(model=model, dtype=dtype, method=METHODS[method], steps=STEPS, out=out))
    command = [os.environ["GRAFT"], "train", file, *arguments]
    if launcher:
        command = [x for i, host in enumerate(launcher)
                   for x in ([":"] if i else ["mpirun"]) + ["-n", "1", "-x", "NCCL_HOSTID=" + host, *command]]
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120)
    except subprocess.TimeoutExpired:
        return "not over after two minutes"
    if done.returncode:
        return "exit code %d: %s" % (done.returncode, "\n".join(done.stdout.splitlines()[-5:]))
    with open(os.path.join(out, "metrics.jsonl")) as f:
        losses = [json.loads(line)["loss"] for line in f if '"loss"' in line]
    return losses if len(losses) == STEPS else "%d losses, not %d" % (len(losses), STEPS)


def compare(name, got, want, limit):
    """Whether they agree, and a line that says so."""
    if isinstance(got, str) or isinstance(want, str):
        return False, "FAILED %s: %s" % (name, got if isinstance(got, str) else "the run it is compared with failed: " + want)
    worst = max(abs(g - w) / abs(w) for g, w in zip(got, want))
    good = worst <= limit
    return good, "%s %s: loss %.5f to %.5f, off by %.2g (limit %.2g)" % (
        "passed" if good else "FAILED", name, got[0], got[-1], worst, limit)


def one_device(model, method):
    name = model + " " + method
    device = ["device=cuda"]
    first = run(model, method, name + " cuda", "float32", device)
    cpu = run(model, method, name + " cpu", "float32", ["device=cpu"])
    again = run(model, method, name + " again", "float32", device + ["training.cuda_graph=false"])
    results = [compare(name + ", float32", first, cpu, LIMIT["float32"]),
               compare(name + ", again without graphs", again, first, 0)]
    if method not in ("full", "demix"):  # trained weights are float32
        half = run(model, method, name + " bf16", "bfloat16", device)
        results.append(compare(name + ", bfloat16", half, cpu, LIMIT["bfloat16"]))
    return results


def two_ranks(model, method):
    name = model + " " + method
    first = run(model, method, name + " cuda", "float32", ["device=cuda"])
    two = run(model, method, name + " two", "float32", ["device=cuda", "share_device=true"], ("one", "two"))
    return [compare(name + ", two ranks", two, first, 0)]


def main():
    work, what, *methods = sys.argv[1:]
    part = {"one": one_device, "nccl": two_ranks}[what]
    work = os.path.join(os.path.abspath(work), what)
    shutil.rmtree(work, ignore_errors=True)
    os.makedirs(work)
    os.environ["GRAFT"] = os.path.abspath(os.environ["GRAFT"])
    os.chdir(work)
    with open("train.jsonl", "w") as f:
        f.writelines(example(i) for i in range(40))
    jobs = []
    for model in "llama", "gpt2":
        subprocess.run([sys.executable, os.path.join(HERE, "../e2e/tiny_model.py"), model, model], check=True)
        # the target modules of "two" are a Llama's
        jobs += [(model, method) for method in methods or METHODS if (model, method) != ("gpt2", "two")]
    good = True
    with concurrent.futures.ThreadPoolExecutor(max_workers=max(1, min(4, (os.cpu_count() or 1) // 2))) as pool:
        for results in pool.map(lambda job: part(*job), jobs):
            for passed, line in results:
                good &= passed
                print(line, flush=True)
    return 0 if good else 1


sys.exit(main())
