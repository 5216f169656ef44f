"""Ids and decoded text of `graft tokenize` against PyPI `tokenizers`, for every supported style of tokenizer.json.

usage: tokenizer_parity.py GRAFT_BINARY [strings per tokenizer]
Trains small tokenizers, writes them to temporary directories and compares on hostile strings. Exit 1 on a difference.
"""

import json
import random
import subprocess
import sys
import tempfile

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
TEKKEN = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
WORDS = """the of and to in a is that for it was on are as with his they be at one have this from or had by hot but some
what there we can out other were all your when up use word how said an each she which do their time if will way about many
then them would write like so these her long make thing see him two has look more day could go come did my sound no most
number who over know water than call first people may down side been now find any new work part take get place made live
where after back little only round man year came show every good me give our under name""".split()


def corpus(rng):
    for _ in range(1500):
        yield " ".join(rng.choice(WORDS) for _ in range(12)).capitalize() + rng.choice(".!?\n") + f" {rng.random():.5f}"
    for line in ("naïve café übermäßig", "не знаю что делать", "日本語のテキスト", "한국어 텍스트", "It's we'll I'd you've", "🚀👩‍👩‍👧 emoji"):
        for _ in range(30):
            yield line + " " + rng.choice(WORDS)


def bpe_trainer(size, alphabet, **more):
    return trainers.BpeTrainer(vocab_size=size, initial_alphabet=alphabet, show_progress=False, **more)


def byte_level(pre, special, norm=None, post=None, ignore_merges=False, rng=None):
    t = Tokenizer(models.BPE(ignore_merges=ignore_merges))
    t.pre_tokenizer = pre
    if norm:
        t.normalizer = norm
    t.decoder = decoders.ByteLevel()
    t.train_from_iterator(corpus(rng), bpe_trainer(900, pre_tokenizers.ByteLevel.alphabet(), special_tokens=special))
    if post:
        t.post_processor = post(t)
    return t


def bos(name):
    return lambda t: processors.Sequence(
        [
            processors.ByteLevel(trim_offsets=False),
            processors.TemplateProcessing(single=f"{name} $A", pair=f"{name} $A {name} $B", special_tokens=[(name, t.token_to_id(name))]),
        ]
    )


def fallback(rng, norm, pre, dec, fuse=True, with_bytes=True):
    t = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=fuse, byte_fallback=with_bytes))
    t.normalizer = norm
    if pre:
        t.pre_tokenizer = pre
    t.decoder = dec
    byte_tokens = [f"<0x{b:02X}>" for b in range(256)] if with_bytes else []
    ascii_only = [chr(c) for c in range(33, 127)] + ["▁"]
    pieces = (" ".join(WORDS[i : i + 2]) for i in range(len(WORDS)))
    t.train_from_iterator(pieces, bpe_trainer(900, ascii_only, special_tokens=["<unk>", "<s>", "</s>"] + byte_tokens, limit_alphabet=120))
    saved = json.loads(t.to_str())  # byte tokens belong to the model alone, as in Llama 2
    saved["added_tokens"] = [a for a in saved["added_tokens"] if not a["content"].startswith("<0x")]
    return Tokenizer.from_str(json.dumps(saved))


def tokenizers(rng):
    bl, seq, split, digits = pre_tokenizers.ByteLevel, pre_tokenizers.Sequence, pre_tokenizers.Split, pre_tokenizers.Digits
    yield "gpt2", byte_level(bl(add_prefix_space=False), ["<|endoftext|>"], rng=rng)
    yield "gpt2-prefix-space", byte_level(bl(add_prefix_space=True), ["<|endoftext|>"], rng=rng)
    llama3 = seq([split(Regex(LLAMA3), "isolated"), bl(add_prefix_space=False, use_regex=False)])
    yield "llama3", byte_level(llama3, ["<|begin|>", "<|eot|>"], post=bos("<|begin|>"), ignore_merges=True, rng=rng)
    qwen2 = seq([split(Regex(QWEN2), "isolated"), bl(add_prefix_space=False, use_regex=False)])
    yield "qwen2", byte_level(qwen2, ["<|im_start|>", "<|im_end|>"], norm=normalizers.NFC(), rng=rng)
    smollm = seq([digits(individual_digits=True), bl(add_prefix_space=False)])
    yield "smollm", byte_level(smollm, ["<|endoftext|>", "<|im_start|>"], rng=rng)
    tekken = seq([split(Regex(TEKKEN), "isolated"), bl(add_prefix_space=False, use_regex=False)])
    yield "tekken", byte_level(tekken, ["<s>"], post=bos("<s>"), ignore_merges=True, rng=rng)
    for behavior in ("removed", "merged_with_previous", "merged_with_next", "contiguous"):
        for invert in (False, True):
            pre = seq([split(Regex(r"\s+|\d"), behavior, invert), split("e", behavior), digits(), bl(add_prefix_space=False)])
            yield f"split-{behavior}-{invert}", byte_level(pre, ["<|x|>"], rng=rng)
    llama2_norm = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    llama2_dec = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    llama2 = fallback(rng, llama2_norm, None, llama2_dec)
    llama2.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)])
    yield "llama2", llama2
    for scheme in ("first", "always", "never"):
        for cut in (False, True):
            pre = pre_tokenizers.Metaspace(prepend_scheme=scheme, split=cut)
            dec = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace(prepend_scheme=scheme)])
            yield f"metaspace-{scheme}-{cut}", fallback(rng, normalizers.NFC(), pre, dec)
    yield "unknown", fallback(rng, llama2_norm, None, llama2_dec, fuse=False, with_bytes=False)
    yield "unknown-fused", fallback(rng, llama2_norm, None, llama2_dec, fuse=True, with_bytes=False)
    added = byte_level(bl(add_prefix_space=False), ["<|endoftext|>"], norm=normalizers.NFC(), rng=rng)
    added.add_tokens(
        [
            AddedToken("hello", single_word=True),
            AddedToken("<left>", lstrip=True),
            AddedToken("<right>", rstrip=True, normalized=False),
            AddedToken("<both>", lstrip=True, rstrip=True, normalized=False),
            AddedToken("e\u0301x", normalized=True),
            AddedToken("e\u0301y", normalized=False),
            AddedToken("<le", normalized=False),
            AddedToken("  ", normalized=False),
            AddedToken("the", normalized=True, single_word=True, lstrip=True),
        ]
    )
    added.add_special_tokens([AddedToken("<both>", lstrip=True), AddedToken("<sp> ", rstrip=True)])
    yield "added", added
    decorated = Tokenizer(models.BPE(unk_token="[UNK]", continuing_subword_prefix="##", end_of_word_suffix="</w>"))
    decorated.pre_tokenizer = pre_tokenizers.Split(" ", "removed")
    trainer = bpe_trainer(600, [], special_tokens=["[UNK]"], continuing_subword_prefix="##", end_of_word_suffix="</w>")
    decorated.train_from_iterator(WORDS * 3, trainer)
    yield "decorated", decorated


SNIPPETS = (
    WORDS
    + """'s 'S 'LL 're 'ſ I'm DON'T 12345 3.14 ½ Ⅷ ٣٤ २ café cafe\u0301 e\u0301x e\u0301y Å ﬁ ſ K ß İ ı 日本 日本語 한국 각 각 🚀 👩‍👩‍👧 <s> </s> <unk>
    <|endoftext|> <|im_start|> <|im_end|> <|begin|> <|eot|> <|x|> <left> <right> <both> <le <left hello helloo hello_ <sp> ▁ ▁▁ ##
    <0x0A> </w> \u0300 \u0323\u0301 \u180e \u200b \u200d \ufeff \ufffd \u0f77 \U0001d165 \u0958 ﷺ""".split()
    + [" ", "  ", "   ", "\n", "\n\n", "\r\n", "\t", "\x0b", "\x85", "\xa0", "\u1680", "\u2003", "\u2028", "\u3000", "\0", "\x1c", "\x7f", "e", ""]
)


def nasty(rng):
    kind = rng.random()
    if kind < 0.15:
        limit = rng.choice((0x80, 0x800, 0x3000, 0x10000, 0x110000))
        chars = (chr(rng.randrange(limit)) for _ in range(rng.randrange(40)))
        return "".join(c for c in chars if not "\ud800" <= c <= "\udfff")
    if kind < 0.2:
        return rng.choice(SNIPPETS) * rng.randrange(1, 60)
    return "".join(rng.choice(SNIPPETS) + rng.choice(("", "", " ", " ", "  ")) for _ in range(rng.randrange(1, 16)))


def every_character():
    """All code points but ideographs, syllables and empty planes, each where a mark would move or compose, 60 a text."""
    spans = (range(0x3400), range(0xA000, 0xAC00), range(0xE000, 0x20000), range(0x2F800, 0x2FA20))
    chars = [chr(c) for span in spans for c in span]
    return ["".join(f"a\u0345{c}\u0334 1" for c in chars[i : i + 60]) for i in range(0, len(chars), 60)]


def run(graft, directory, lines, *options):
    text = "".join(json.dumps(x) + "\n" for x in lines)
    done = subprocess.run([graft, "tokenize", directory, "--json", *options], input=text.encode(), capture_output=True)
    if done.returncode:
        sys.exit(f"graft failed with {done.returncode}: {done.stderr.decode()}")
    return [json.loads(x) for x in done.stdout.decode().split("\n")[:-1]]


def compare(name, what, sources, got, want):
    wrong = [i for i in range(len(want)) if got[i] != want[i]] if len(got) == len(want) else [0]
    for i in wrong[:3]:
        print(f"{name} {what}: {sources[i]!r}\n  graft      {got[i]}\n  tokenizers {want[i]}")
    return len(wrong)


def main():
    graft, count = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 2000
    rng = random.Random(1)
    wrong = 0
    for name, t in tokenizers(rng):
        texts = [nasty(rng) for _ in range(count)] + ["", "a" * 3000, " " * 3000, "the " * 1000, "\n \n" * 500]
        if name in ("qwen2", "smollm"):
            texts += every_character()
        size = max(t.get_vocab().values()) + 1
        streams = [[rng.randrange(size) for _ in range(rng.randrange(30))] for _ in range(count // 2)]
        with tempfile.TemporaryDirectory() as directory:
            t.save(directory + "/tokenizer.json")
            t = Tokenizer.from_file(directory + "/tokenizer.json")
            plain = [t.encode(x, add_special_tokens=False).ids for x in texts]
            streams += plain
            bad = compare(name, "ids", texts, run(graft, directory, texts), plain)
            bad += compare(name, "ids with special", texts, run(graft, directory, texts, "--special"), [t.encode(x).ids for x in texts])
            text = [t.decode(x, skip_special_tokens=False) for x in streams]
            bad += compare(name, "decode", streams, run(graft, directory, streams, "--decode"), text)
        print(f"{name}: {len(texts)} texts, {len(streams)} id lists, {bad} differ")
        wrong += bad
    sys.exit(1 if wrong else 0)


main()
