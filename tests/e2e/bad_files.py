#!/usr/bin/env python3
"""Damaged files for bad_inputs.sh, made in the current directory from good ones.

    bad_files.py MODEL                     data sets, models, GGUF files
    bad_files.py MODEL PEFT CHECKPOINT     adapters and checkpoints
"""
import json
import os
import shutil
import struct
import sys


def write(path, data):
    with open(path, "wb") as f:
        f.write(data if isinstance(data, bytes) else data.encode())


def read_safetensors(path):
    data = open(path, "rb").read()
    n = struct.unpack("<Q", data[:8])[0]
    return json.loads(data[8:8 + n]), data[8 + n:]


def write_safetensors(path, header, blob):
    text = json.dumps(header).encode()
    write(path, struct.pack("<Q", len(text)) + text + blob)


def copy(source, name):
    shutil.rmtree(name, ignore_errors=True)
    shutil.copytree(source, name)
    return name


def data_sets():
    good = '{"prompt": "the noun:", "completion": " tin"}\n'
    write("empty.jsonl", "\n\n")
    write("broken.jsonl", good + good + '{"prompt": "the\n')
    write("nofield.jsonl", good + '{"question": "the", "answer": "tin"}\n')
    write("number.jsonl", good + '{"prompt": 7, "completion": " tin"}\n')
    write("utf8.jsonl", good.encode() + b'{"prompt": "\xff\xfe", "completion": " tin"}\n')
    write("long.jsonl", good + json.dumps({"prompt": "the noun " * 60, "completion": " tin"}) + "\n")


def edit_json(model, name, file, change):
    path = os.path.join(copy(model, name), file)
    value = json.load(open(path, encoding="utf-8"))
    change(value)
    write(path, json.dumps(value))


def configs(model):
    os.remove(os.path.join(copy(model, "no-config"), "config.json"))
    write(os.path.join(copy(model, "config-broken"), "config.json"), '{"model_type": "llama",')
    edit_json(model, "config-family", "config.json", lambda c: c.update(model_type="mamba"))
    edit_json(model, "config-activation", "config.json", lambda c: c.update(hidden_act=3))
    edit_json(model, "config-heads", "config.json", lambda c: c.update(num_attention_heads=5))
    edit_json(model, "config-negative", "config.json", lambda c: c.update(hidden_size=-32))
    edit_json(model, "config-string", "config.json", lambda c: c.update(num_hidden_layers="two"))


def tokenizers(model):
    os.remove(os.path.join(copy(model, "no-tokenizer"), "tokenizer.json"))
    write(os.path.join(copy(model, "tok-broken"), "tokenizer.json"), "{")
    edit_json(model, "tok-type", "tokenizer.json", lambda t: t["model"].update(type="WordPiece"))
    edit_json(model, "tok-merge", "tokenizer.json", lambda t: t["model"]["merges"].append("the nowhere"))


def weights(model):
    def damaged(name, change):
        path = os.path.join(copy(model, name), "model.safetensors")
        header, blob = read_safetensors(path)
        result = change(header, blob)
        write_safetensors(path, header, result if isinstance(result, bytes) else blob)

    def raw(name, change):
        path = os.path.join(copy(model, name), "model.safetensors")
        write(path, change(open(path, "rb").read()))

    norm = "model.norm.weight"
    os.remove(os.path.join(copy(model, "no-weights"), "model.safetensors"))
    raw("st-empty", lambda d: b"")
    raw("st-header-length", lambda d: struct.pack("<Q", 1 << 62) + d[8:])
    raw("st-header-json", lambda d: d[:8] + b"[" + d[9:])
    raw("st-truncated", lambda d: d[:-1000])
    damaged("st-offsets", lambda h, b: h[norm].update(data_offsets=[64, 32]))
    damaged("st-overlap", lambda h, b: h[norm].update(data_offsets=[0, 128]))
    damaged("st-overflow", lambda h, b: h[norm].update(shape=[1 << 62, 8]))
    damaged("st-missing-tensor", lambda h, b: h.update({"model.other.weight": h.pop(norm)}))
    damaged("st-wrong-shape", lambda h, b: h[norm].update(shape=[16, 2]))


def gguf():
    head = struct.pack("<4sI", b"GGUF", 3)
    key = struct.pack("<Q", 20) + b"general.architecture" + struct.pack("<IQ", 8, 5) + b"llama"
    write("bad-magic.gguf", b"GGML" + bytes(60))
    write("truncated.gguf", head + struct.pack("<QQ", 1, 1) + key[:25])
    write("counts.gguf", head + struct.pack("<QQ", 1 << 60, 1 << 60) + key)
    write("string.gguf", head + struct.pack("<QQ", 0, 1) + struct.pack("<Q", (1 << 64) - 8) + b"general")


def adapters(peft):
    tensors = "adapter_model.safetensors"
    write(os.path.join(copy(peft, "peft-broken"), "adapter_config.json"), "{")
    edit_json(peft, "peft-type", "adapter_config.json", lambda c: c.update(peft_type="VERA"))
    os.remove(os.path.join(copy(peft, "peft-no-weights"), tensors))
    for name, change in (("peft-missing-tensor", lambda h, k: h.pop(k)),
                         ("peft-wrong-shape", lambda h, k: h[k].update(shape=h[k]["shape"][::-1]))):
        path = os.path.join(copy(peft, name), tensors)
        header, blob = read_safetensors(path)
        change(header, next(k for k in sorted(header) if "lora_A" in k))
        # a hole in the file would be an error of its own: lay the tensors out afresh
        packed = b""
        for k, v in header.items():
            if k != "__metadata__":
                a, b = v["data_offsets"]
                v["data_offsets"] = [len(packed), len(packed) + b - a]
                packed += blob[a:b]
        write_safetensors(path, header, packed)


def checkpoints(path):
    data = bytearray(open(path, "rb").read())
    write("cut.h5", bytes(data[:len(data) // 2]))
    data[len(data) // 2] ^= 4
    write("flipped.h5", bytes(data))
    write("text.h5", "this is no checkpoint\n")


if len(sys.argv) == 2:
    data_sets()
    configs(sys.argv[1])
    tokenizers(sys.argv[1])
    weights(sys.argv[1])
    gguf()
else:
    adapters(sys.argv[2])
    checkpoints(sys.argv[3])
