#!/usr/bin/env python3
"""Writes a tiny Llama or GPT-2 as a Hugging Face directory, with random weights and a byte-level tokenizer.

    tiny_model.py DIR [llama|gpt2]

Standard library only, so that the end-to-end tests need nothing but an interpreter. The weights are a function of their
name alone.
"""
import json
import os
import random
import struct
import sys

HIDDEN, LAYERS, HEADS, KV_HEADS, FF, POSITIONS = 32, 2, 4, 2, 48, 256
MERGES = ["h e", "t he", "i n", "a n", "Ġ t", "Ġt he", "Ġ a", "e r", "o n", "r e", "Ġ n", "Ġn o", "o u", "Ġno u", "Ġnou n"]


def byte_alphabet():
    """GPT-2's printable stand-ins for the 256 bytes."""
    kept = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [b for b in range(256) if b not in kept]
    return [chr(b) if b in kept else chr(256 + rest.index(b)) for b in range(256)]


def tokenizer():
    tokens = byte_alphabet() + [m.replace(" ", "") for m in MERGES]
    eos = len(tokens)
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    return eos, {
        "version": "1.0", "truncation": None, "padding": None, "normalizer": None, "post_processor": None,
        "added_tokens": [{"id": eos, "content": "<|endoftext|>", "single_word": False, "lstrip": False,
                          "rstrip": False, "normalized": False, "special": True}],
        "pre_tokenizer": byte_level, "decoder": byte_level,
        "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                  "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
                  "vocab": {t: i for i, t in enumerate(tokens)}, "merges": MERGES},
    }


def llama(vocab):
    shapes = {"model.embed_tokens.weight": (vocab, HIDDEN), "model.norm.weight": (HIDDEN,)}
    kv = HIDDEN // HEADS * KV_HEADS
    for i in range(LAYERS):
        p = f"model.layers.{i}."
        shapes |= {p + "self_attn.q_proj.weight": (HIDDEN, HIDDEN), p + "self_attn.k_proj.weight": (kv, HIDDEN),
                   p + "self_attn.v_proj.weight": (kv, HIDDEN), p + "self_attn.o_proj.weight": (HIDDEN, HIDDEN),
                   p + "mlp.gate_proj.weight": (FF, HIDDEN), p + "mlp.up_proj.weight": (FF, HIDDEN),
                   p + "mlp.down_proj.weight": (HIDDEN, FF), p + "input_layernorm.weight": (HIDDEN,),
                   p + "post_attention_layernorm.weight": (HIDDEN,)}
    config = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": vocab, "hidden_size": HIDDEN,
              "intermediate_size": FF, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS,
              "num_key_value_heads": KV_HEADS, "max_position_embeddings": POSITIONS, "rms_norm_eps": 1e-5,
              "rope_theta": 10000.0, "hidden_act": "silu", "tie_word_embeddings": True}
    return config, shapes


def gpt2(vocab):
    shapes = {"wte.weight": (vocab, HIDDEN), "wpe.weight": (POSITIONS, HIDDEN), "ln_f.weight": (HIDDEN,),
              "ln_f.bias": (HIDDEN,)}
    for i in range(LAYERS):
        p = f"h.{i}."
        for norm in "ln_1", "ln_2":
            shapes |= {p + norm + ".weight": (HIDDEN,), p + norm + ".bias": (HIDDEN,)}
        for name, n_in, n_out in (("attn.c_attn", HIDDEN, 3 * HIDDEN), ("attn.c_proj", HIDDEN, HIDDEN),
                                  ("mlp.c_fc", HIDDEN, 4 * HIDDEN), ("mlp.c_proj", 4 * HIDDEN, HIDDEN)):
            shapes |= {p + name + ".weight": (n_in, n_out), p + name + ".bias": (n_out,)}
    config = {"architectures": ["GPT2LMHeadModel"], "model_type": "gpt2", "vocab_size": vocab, "n_embd": HIDDEN,
              "n_layer": LAYERS, "n_head": HEADS, "n_positions": POSITIONS, "n_ctx": POSITIONS,
              "layer_norm_epsilon": 1e-5, "activation_function": "gelu_new", "tie_word_embeddings": True}
    return config, shapes


def values(name, shape):
    rng = random.Random(name)
    count = 1
    for d in shape:
        count *= d
    norm = len(shape) == 1 and name.endswith("weight")
    return struct.pack(f"<{count}f", *(1.0 if norm else rng.gauss(0.0, 0.15) for _ in range(count)))


def write_safetensors(path, shapes):
    header, blob = {"__metadata__": {"format": "pt"}}, b""
    for name, shape in sorted(shapes.items()):
        data = values(name, shape)
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [len(blob), len(blob) + len(data)]}
        blob += data
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + blob)


def main():
    out, family = sys.argv[1], (sys.argv[2:] or ["llama"])[0]
    os.makedirs(out, exist_ok=True)
    eos, tok = tokenizer()
    config, shapes = {"llama": llama, "gpt2": gpt2}[family](eos + 1)
    config |= {"bos_token_id": eos, "eos_token_id": eos, "torch_dtype": "float32"}
    for name, value in (("config.json", config), ("tokenizer.json", tok),
                        ("tokenizer_config.json", {"tokenizer_class": "GPT2Tokenizer", "bos_token": "<|endoftext|>",
                                                   "eos_token": "<|endoftext|>", "add_bos_token": False})):
        with open(os.path.join(out, name), "w", encoding="utf-8") as f:
            json.dump(value, f)
    write_safetensors(os.path.join(out, "model.safetensors"), shapes)


main()
