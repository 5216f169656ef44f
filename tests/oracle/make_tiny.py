#!/usr/bin/env python3
"""Makes tiny random Hugging Face model directories, complete with a tokenizer, for tests.

    make_tiny.py OUT [--family llama|gpt2] [--dtype float32|bfloat16|float16] [--shards 3] [--tied] [--bias] ...

The weights are larger than a fresh model's, so that attention and activations are not close to linear.
"""
import argparse
import json
import os
import warnings

warnings.filterwarnings("ignore")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

CORPUS = """A river is a natural stream of water that flows towards an ocean, a lake or another river.
A mountain is land that rises well above its surroundings; a hill rises less than a mountain does.
The oak is a tree of the beech family. The beech is a tree, too, and so are the birch and the maple.
To measure is to find the size, the amount or the degree of something with an instrument: 3 metres, 12.5 grams.
Copper, iron and silver are metals. Glass isn't a metal; it's made of sand, and it doesn't conduct electricity.
Straße, naïve, café, 日本語, Ελλάδα and emoji 🙂 are words in other scripts.
    def f(x):\n        return x + 1\n""" * 4

ROPE = {
    "default": None,
    "linear": {"rope_type": "linear", "factor": 2.0},
    "llama3": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
               "original_max_position_embeddings": 32},
}


def make_tokenizer(out, vocab_size, bos):
    """A byte-level BPE trained on CORPUS, with <|end|> as EOS and, if bos, <|begin|> put in front."""
    tok = Tokenizer(models.BPE())
    tok.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tok.decoder = decoders.ByteLevel()
    special = ["<|begin|>", "<|end|>"]
    tok.train_from_iterator([CORPUS], trainers.BpeTrainer(
        vocab_size=vocab_size, special_tokens=special, show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    tok.post_processor = processors.TemplateProcessing(
        single="<|begin|> $A", special_tokens=[("<|begin|>", 0)]) if bos else processors.ByteLevel(trim_offsets=False)
    names = {"eos_token": "<|end|>"}
    if bos:
        names["bos_token"] = "<|begin|>"
    fast = PreTrainedTokenizerFast(tokenizer_object=tok, clean_up_tokenization_spaces=False, **names)
    fast.save_pretrained(out)
    return len(fast)


def add_arguments(p):
    p.add_argument("--family", choices=["llama", "gpt2"], default="llama")
    p.add_argument("--dtype", choices=["float64", "float32", "bfloat16", "float16"], default="float32")
    p.add_argument("--shards", type=int, default=1, help="at least this many weight files, if there is enough to split")
    p.add_argument("--vocab", type=int, default=320, help="most tokens, at least 258")
    p.add_argument("--hidden", type=int, default=48)
    p.add_argument("--layers", type=int, default=2)
    p.add_argument("--heads", type=int, default=6)
    p.add_argument("--kv-heads", type=int, default=2)
    p.add_argument("--head-dim", type=int, default=None, help="default: hidden / heads")
    p.add_argument("--ff", type=int, default=80)
    p.add_argument("--positions", type=int, default=128)
    p.add_argument("--tied", action="store_true")
    p.add_argument("--bias", action="store_true", help="attention_bias and mlp_bias (Llama)")
    p.add_argument("--rope", choices=sorted(ROPE), default="default")
    p.add_argument("--bos", action="store_true", help="the tokenizer puts a BOS in front")
    p.add_argument("--seed", type=int, default=0)


def build_model(o, vocab):
    torch.manual_seed(o.seed)
    if o.family == "llama":
        extra = {} if o.head_dim is None else {"head_dim": o.head_dim}
        config = LlamaConfig(
            vocab_size=vocab, hidden_size=o.hidden, num_hidden_layers=o.layers, num_attention_heads=o.heads,
            num_key_value_heads=o.kv_heads, intermediate_size=o.ff, max_position_embeddings=o.positions,
            rms_norm_eps=1e-5, attention_bias=o.bias, mlp_bias=o.bias, tie_word_embeddings=o.tied,
            rope_theta=10000.0, rope_scaling=ROPE[o.rope], bos_token_id=0 if o.bos else None, eos_token_id=1,
            attn_implementation="eager", **extra)
        model = LlamaForCausalLM(config)
    else:
        config = GPT2Config(
            vocab_size=vocab, n_embd=o.hidden, n_layer=o.layers, n_head=o.heads, n_inner=o.ff,
            n_positions=o.positions, tie_word_embeddings=o.tied, bos_token_id=None, eos_token_id=1,
            resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, attn_implementation="eager")
        model = GPT2LMHeadModel(config)
    model = model.double().eval()
    with torch.no_grad():
        for name, p in model.named_parameters():
            if name.endswith("bias"):
                p.normal_(0, 0.1)
            elif p.dim() == 1:
                p.add_(torch.randn_like(p) * 0.1)
            else:
                p.normal_(0, 0.5 if "wte" in name or "embed" in name else 1.5 / p.shape[-1] ** 0.5)
    return model.to(getattr(torch, o.dtype))


def make(out, o):
    os.makedirs(out, exist_ok=True)
    model = build_model(o, make_tokenizer(out, o.vocab, o.bos))
    size = sum(p.numel() * p.element_size() for p in model.parameters())
    model.save_pretrained(out, safe_serialization=True, max_shard_size=size // o.shards + 1)
    files = [f for f in os.listdir(out) if f.endswith(".safetensors")]
    if len(files) < o.shards:
        raise SystemExit(f"{out}: only {len(files)} shards; take more layers or fewer shards")
    return model


def options(**chosen):
    """The defaults of the command line with some changed, for callers from Python."""
    p = argparse.ArgumentParser()
    add_arguments(p)
    o = p.parse_args([])
    for key, value in chosen.items():
        if not hasattr(o, key):
            raise KeyError(key)
        setattr(o, key, value)
    return o


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out")
    add_arguments(parser)
    args = parser.parse_args()
    model = make(args.out, args)
    print(json.dumps({"path": args.out, "parameters": sum(p.numel() for p in model.parameters())}))
