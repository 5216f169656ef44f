#!/usr/bin/env python3
"""A byte-level BPE tokenizer for a small model that is pretrained from nothing, with PyPI `tokenizers`.

    train_bpe.py --vocab 4096 OUT_DIR TRAIN.jsonl

Every sequence begins with <|bos|>; documents end with <|eos|>. Deterministic in its input."""
import argparse
import json
import os

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--vocab", type=int, default=4096)
    p.add_argument("out")
    p.add_argument("data")
    a = p.parse_args()
    with open(a.data, encoding="utf-8") as f:
        texts = [json.loads(line)["text"] for line in f]
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    t.decoder = decoders.ByteLevel()
    special = ["<|bos|>", "<|eos|>"]
    t.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=a.vocab,
            special_tokens=special,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    t.post_processor = processors.TemplateProcessing(single="<|bos|> $A", special_tokens=[("<|bos|>", 0)])
    os.makedirs(a.out, exist_ok=True)
    t.save(os.path.join(a.out, "tokenizer.json"))
    with open(os.path.join(a.out, "tokenizer_config.json"), "w", encoding="utf-8") as f:
        json.dump(
            {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": special[0], "eos_token": special[1]}, f, indent=1
        )
    tokens = sum(len(e.ids) for e in t.encode_batch(texts))
    print(f"{a.out}: {t.get_vocab_size()} tokens; {tokens} in {a.data}")


if __name__ == "__main__":
    main()
