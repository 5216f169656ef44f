#!/usr/bin/env python3
"""PEFT as the judge of prompt tuning and P-tuning: `graft train`, `graft export`, `graft score`.

    peft_prompt.py --graft PATH/graft [--keep DIR]

As peft_parity.py does for LoRA: PEFT and graft both take 10 full-batch AdamW steps from the same initial tensors, which
PEFT makes (a text's embeddings graft makes itself). Losses, tensors (an encoder's, too) and the log-probabilities of
what was exported must agree; and the adapter that PEFT saves after its own training is read by `graft score`.
"""
import json
import os

import peft_parity as parity  # first: it silences the libraries
import make_tiny
import torch
from peft import PromptEncoderConfig, PromptTuningConfig, get_peft_model
from peft_prefix import compare_all, main
from safetensors.numpy import save_file
from transformers import AutoTokenizer

CONSTANT = dict(learning_rate=5e-2, lr_scheduler_type="constant", weight_decay=0.0)
LLAMA = dict(bias=True, bos=True, kv_heads=2, rope="llama3")
GPT2 = dict(family="gpt2", tied=True)
CASES = {
    "prompt-llama": dict(model=LLAMA, type="prompt_tuning", keys=dict(num_virtual_tokens=5), training=CONSTANT),
    "prompt-gpt2": dict(
        model=GPT2, type="prompt_tuning", keys=dict(num_virtual_tokens=3),
        training=dict(learning_rate=5e-2, lr_scheduler_type="linear", warmup_steps=2, weight_decay=0.01,
                      gradient_checkpointing=True, micro_batch_tokens=160)),
    "prompt-text-llama": dict(
        model=LLAMA, type="prompt_tuning", training=CONSTANT,
        keys=dict(num_virtual_tokens=9, prompt_tuning_init="TEXT", prompt_tuning_init_text="Say what it is:")),
    "prompt-text-gpt2": dict(
        model=GPT2, type="prompt_tuning", training=CONSTANT,
        keys=dict(num_virtual_tokens=4, prompt_tuning_init="TEXT",
                  prompt_tuning_init_text="Define the thing, be it a river or a lake, in a few words of English.")),
    "mlp-llama": dict(
        model=LLAMA, type="p_tuning", keys=dict(num_virtual_tokens=5),
        training=dict(learning_rate=1e-2, lr_scheduler_type="cosine", warmup_steps=2, weight_decay=0.0,
                      max_grad_norm=0.5, micro_batch_tokens=160)),
    "mlp-gpt2": dict(
        model=GPT2, type="p_tuning", training=dict(CONSTANT, learning_rate=1e-2),
        keys=dict(num_virtual_tokens=4, encoder_reparameterization_type="MLP", encoder_hidden_size=11)),
    "lstm-llama": dict(
        model=LLAMA, type="p_tuning", training=dict(CONSTANT, learning_rate=1e-2, gradient_checkpointing=True),
        keys=dict(num_virtual_tokens=6, encoder_reparameterization_type="LSTM", encoder_hidden_size=7,
                  encoder_num_layers=3)),
    "lstm-gpt2": dict(
        model=GPT2, type="p_tuning", training=dict(CONSTANT, learning_rate=1e-2),
        keys=dict(num_virtual_tokens=4, encoder_reparameterization_type="LSTM")),
}
PEFT = {"prompt_tuning": PromptTuningConfig, "p_tuning": PromptEncoderConfig}


def tensors(model, kind):
    """What is trained, under graft's names: PEFT's own, but a prompt's rows as PEFT saves them."""
    named = {n: p.detach().float().numpy().copy() for n, p in model.named_parameters() if p.requires_grad}
    return named if kind == "p_tuning" else {"prompt_embeddings": named["prompt_encoder.default.embedding.weight"]}


def write_start(folder, model, kind):
    """PEFT itself saves an encoder folded, from which no training can start."""
    os.makedirs(folder)
    save_file(tensors(model, kind), os.path.join(folder, "adapter_model.safetensors"))
    with open(os.path.join(folder, "adapter_config.json"), "w") as f:
        json.dump({"peft_type": PEFT[kind](task_type="CAUSAL_LM").peft_type.value}, f)


def config_text(base, start, data, out, case):
    keys, t = dict(case["keys"]), dict(case["training"])
    t.setdefault("micro_batch_tokens", 2048)
    if "prompt_tuning_init" not in keys:
        keys["init_from"] = start
    lines = [f"model: {base}", "method:", f"  type: {case['type']}", *(f"  {k}: {json.dumps(v)}" for k, v in keys.items()),
             "data:", f"  train: {data}", "  max_seq_length: 96", "training:",
             f"  global_batch_size: {len(parity.EXAMPLES)}", f"  max_steps: {parity.STEPS}",
             *(f"  {k}: {json.dumps(v)}" for k, v in t.items()), f"output_dir: {out}", "logging_steps: 1"]
    return "\n".join(lines) + "\n"


def run_case(graft, name, case, folder):
    judge = parity.Judge(graft, name)
    base, start, data, out = (os.path.join(folder, name + "-" + part) for part in ("base", "start", "data.jsonl", "run"))
    make_tiny.make(base, make_tiny.options(**case["model"]))
    tok = AutoTokenizer.from_pretrained(base)
    with open(data, "w") as f:
        f.writelines(json.dumps(e) + "\n" for e in parity.EXAMPLES)
    torch.manual_seed(1)
    kind, more = case["type"], {}
    if "prompt_tuning_init_text" in case["keys"]:
        more["tokenizer_name_or_path"] = base
    model = get_peft_model(parity.load_base(base), PEFT[kind](task_type="CAUSAL_LM", **case["keys"], **more))
    write_start(start, model.float(), kind)
    model = model.double().eval()
    config = os.path.join(folder, name + ".yaml")
    with open(config, "w") as f:
        f.write(config_text(base, start, data, out, case))

    compare_all(judge, model, tok, base, config, out, case["training"], lambda: tensors(model, kind), "prompt")
    return judge.good


if __name__ == "__main__":
    main(__doc__, CASES, run_case)
