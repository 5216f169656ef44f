#!/usr/bin/env python3
"""PyPI gguf and llama.cpp as judges of `graft export --format gguf-adapter`.

    gguf_adapter.py --graft PATH/graft [--llama] [--keep DIR]

For each case a tiny random model, its float32 GGUF and a LoRA made by PEFT. graft writes the LoRA as GGUF; gguf reads
it; and the log-probabilities of `graft score` with it on the GGUF are those of PEFT's adapter on the Hugging Face model
to 1e-4. With --llama, llama.cpp (PyPI llama-cpp-python) gives them with the adapter, too, to 1e-2, and differs without.
"""
import argparse
import json
import os
import sys
import tempfile

import peft_parity as parity  # first: it silences the libraries
import make_tiny
import gguf
import numpy as np
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoConfig, AutoTokenizer

READ_LIMIT, LLAMA_LIMIT = 1e-4, 1e-2
CASES = {
    "llama": dict(model=dict(kv_heads=2), lora=dict(r=4, lora_alpha=8, target_modules="all-linear")),
    "llama-ranks": dict(
        model=dict(kv_heads=3, tied=True),
        lora=dict(r=3, lora_alpha=5, target_modules=["q_proj", "k_proj", "down_proj"], use_rslora=True,
                  rank_pattern={"k_proj": 7, "down_proj": 2})),
    "gpt2": dict(model=dict(family="gpt2", tied=True),
                 lora=dict(r=4, lora_alpha=8, target_modules="all-linear", use_rslora=True)),
}


def permute(w, heads):
    """GGUF's order of the rows of q and k: the halves of a head interleaved."""
    return w.reshape(heads, 2, w.shape[0] // heads // 2, -1).swapaxes(1, 2).reshape(w.shape)


def add_tokenizer(out, folder):
    with open(os.path.join(folder, "tokenizer.json")) as f:
        spec = json.load(f)
    vocab, special = spec["model"]["vocab"], {t["content"] for t in spec["added_tokens"]}
    tokens = sorted(vocab, key=vocab.get)
    out.add_tokenizer_model("gpt2")
    out.add_tokenizer_pre("gpt-2")
    out.add_token_list(tokens)
    kinds = [gguf.TokenType.CONTROL if t in special else gguf.TokenType.NORMAL for t in tokens]
    out.add_token_types(kinds)
    out.add_token_merges([m if isinstance(m, str) else " ".join(m) for m in spec["model"]["merges"]])
    out.add_bos_token_id(0)
    out.add_eos_token_id(1)
    out.add_add_bos_token(False)


def write_base(folder, path):
    c = AutoConfig.from_pretrained(folder)
    llama = c.model_type == "llama"
    layers, heads = c.num_hidden_layers, c.num_attention_heads
    out = gguf.GGUFWriter(path, c.model_type)
    out.add_context_length(c.max_position_embeddings)
    out.add_embedding_length(c.hidden_size)
    out.add_block_count(layers)
    out.add_head_count(heads)
    if llama:
        out.add_feed_forward_length(c.intermediate_size)
        out.add_head_count_kv(c.num_key_value_heads)
        out.add_layer_norm_rms_eps(c.rms_norm_eps)
        out.add_rope_dimension_count(c.hidden_size // heads)
        out.add_rope_freq_base(c.rope_theta)
        out.add_vocab_size(c.vocab_size)
    else:
        out.add_feed_forward_length(c.n_inner)
        out.add_layer_norm_eps(c.layer_norm_epsilon)
    add_tokenizer(out, folder)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA if llama else gguf.MODEL_ARCH.GPT2, layers)
    for name, p in parity.load_base(folder).state_dict().items():
        if name == "lm_head.weight" and c.tie_word_embeddings:
            continue
        w = p.float().numpy()
        if llama and (".q_proj." in name or ".k_proj." in name):
            w = permute(w, heads if ".q_proj." in name else c.num_key_value_heads)
        if not llama and w.ndim == 2 and name.endswith(("c_attn.weight", "c_proj.weight", "c_fc.weight")):
            w = np.ascontiguousarray(w.T)
        out.add_tensor(names.get_name(name, try_suffixes=(".weight", ".bias")), w)
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()


def read_adapter(judge, path, arch, adapted):
    """What PyPI gguf finds."""
    reader = gguf.GGUFReader(path)
    wanted = {"general.type": "adapter", "adapter.type": "lora", "general.architecture": arch}
    for key, value in wanted.items():
        if reader.fields[key].contents() != value:
            raise SystemExit(f"FAIL {judge.case}: {key} is {reader.fields[key].contents()!r}")
    names = {t.name for t in reader.tensors}
    pairs = {n[:-len(".lora_a")] for n in names if n.endswith(".lora_a")}
    if len(pairs) != adapted or names != {f"{n}.lora_{x}" for n in pairs for x in "ab"}:
        raise SystemExit(f"FAIL {judge.case}: {len(pairs)} pairs for {adapted} adapted linears")
    print(f"ok   {judge.case}: gguf reads {len(pairs)} pairs, alpha {reader.fields['adapter.lora.alpha'].contents():g}")


def farthest(a, b):
    return max(np.abs(np.array(x["logprobs"]) - y).max() for x, y in zip(a, b))


def with_llama(base, adapter, tok):
    import llama_cpp
    llm = llama_cpp.Llama(base, lora_path=adapter, logits_all=True, n_ctx=128, n_threads=2, verbose=False,
                          type_k=llama_cpp.GGML_TYPE_F32, type_v=llama_cpp.GGML_TYPE_F32)
    rows = []
    for example in parity.EXAMPLES + parity.TEXTS:
        prompt, completion = parity.tokenize(tok, example, False)
        llm.reset()
        llm.eval(prompt + completion)
        z = torch.tensor(llm.scores[:len(prompt) + len(completion)]).double()
        z = torch.log_softmax(z, -1)[len(prompt) - 1:-1]
        rows.append(z.gather(1, torch.tensor(completion)[:, None])[:, 0].numpy())
    return rows


def run_case(graft, name, case, folder, llama):
    judge = parity.Judge(graft, name)
    base, file, adapter, out = (os.path.join(folder, name + "-" + part) for part in ("base", "base.gguf", "peft", "out"))
    make_tiny.make(base, make_tiny.options(**case["model"]))
    tok = AutoTokenizer.from_pretrained(base)
    write_base(base, file)
    torch.manual_seed(1)
    config = LoraConfig(task_type="CAUSAL_LM", lora_dropout=0.0, init_lora_weights=False, **case["lora"])
    model = get_peft_model(parity.load_base(base), config).float()
    with torch.no_grad():
        for key, p in model.named_parameters():
            if "lora_B" in key:
                p.mul_(0.5)
    model.save_pretrained(adapter)
    judge.run("export", adapter, "--format", "gguf-adapter", out, "--model", base)
    written = os.path.join(out, "adapter.gguf")
    arch = AutoConfig.from_pretrained(base).model_type
    read_adapter(judge, written, arch, sum("lora_A" in n for n, _ in model.named_parameters()))

    expected = judge.score(base, "--adapter", adapter)
    got = judge.score(file, "--adapter", written)
    judge.compare_scores("the GGUF adapter on the GGUF against PEFT", model.double().eval(), tok, got)
    judge.check("the GGUF adapter against PEFT's in graft", farthest(expected, [s["logprobs"] for s in got]), READ_LIMIT)
    if llama:
        judge.check("llama.cpp with the adapter", farthest(got, with_llama(file, written, tok)), LLAMA_LIMIT)
        bare = farthest(got, with_llama(file, None, tok))
        if bare < 10 * LLAMA_LIMIT:
            raise SystemExit(f"FAIL {name}: llama.cpp without the adapter is as near ({bare:.1e}): the case shows nothing")
    return judge.good


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--graft", required=True)
    parser.add_argument("--llama", action="store_true", help="ask llama.cpp, too (needs llama-cpp-python)")
    parser.add_argument("--case", choices=list(CASES), help="only this one")
    parser.add_argument("--keep", help="work in this directory and leave the files there")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        work = os.path.abspath(args.keep or temporary)
        os.makedirs(work, exist_ok=True)
        names = [args.case] if args.case else list(CASES)
        results = [run_case(os.path.abspath(args.graft), n, CASES[n], work, args.llama) for n in names]
    sys.exit(0 if all(results) else 1)
