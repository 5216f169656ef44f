#!/usr/bin/env bash
# graft data build: the same bytes on any number of ranks and threads and after any kills; what inspect says; bad input.
. "$(dirname "$0")/common.sh"

# 26 shards of 4096 lines: text of unequal length, metadata of mixed types, a blank line here and there
python3 - <<'PY'
import json
words = "the noun another tin on there anna inner them rerun router an on a tour then".split()
def line(i):
    text = " ".join(words[(i * 7 + k * (i + 3)) % len(words)] for k in range(3 + i * 5 % 17))
    row = {"url": f"https://{i % 11}.org/{i}", "text": text, "year": 1900 + i % 100}
    if i % 3 == 0: row["score"] = i * 0.1
    if i % 1000 == 0: row["year"] = "old"
    if i % 7 == 0: row["tags"] = {"b": [i, None], "a": "\u00e4\u0000"}
    return json.dumps(row) + ("\n\n" if i % 500 == 0 else "\n")
for name, first, last in ("one.jsonl", 0, 60000), ("two.jsonl", 60000, 105000):
    with open(name, "w") as f:
        f.writelines(line(i) for i in range(first, last))
PY
build() { # RANKS OUT
    mpirun -n "$1" "$graft" data build one.jsonl two.jsonl "$2" --model tiny
}
clean() { # OUT: nothing but the store is left
    [ ! -e "$1.parts" ] || { ls -la "$1.parts"; die "$1.parts is left"; }
    [ -z "$(find . -name ".*.tmp-*")" ] || die "temporary files are left"
}

OMP_NUM_THREADS=1 "$graft" data build one.jsonl two.jsonl want.h5 --model tiny >want.txt
clean want.h5
grep -q '^want.h5: 105000 documents, ' want.txt || { cat want.txt; die "the counts"; }
for ranks_threads in 1-2 2-1 3-2; do
    OMP_NUM_THREADS=${ranks_threads#*-} build "${ranks_threads%-*}" got.h5 >got.txt
    cmp want.h5 got.h5 || die "ranks-threads $ranks_threads"
    cmp <(sed s/want/got/ want.txt) got.txt || die "the counts, ranks-threads $ranks_threads"
done

# the tokens are those of graft tokenize, the metadata is that of the lines; read by the HDF5 tools
"$graft" inspect want.h5 --json --verify >inspect.json
h5dump -d /tokens -c 2000 -y -w 0 -o tokens.txt -O want.h5
h5dump -d /offsets -c 60 -y -w 0 -o offsets.txt -O want.h5
h5dump -d /metadata_offsets -c 60 -y -w 0 -o metadata_offsets.txt -O want.h5
h5dump -d /metadata -b LE -o metadata.bin want.h5 >/dev/null
awk 'NF && ++n <= 40' one.jsonl | python3 -c 'import json, sys; [print(json.dumps(json.loads(l)["text"])) for l in sys.stdin]' |
    "$graft" tokenize tiny --json >ids.txt
python3 - <<'PY' || die "the contents of the store"
import json
numbers = lambda name: [int(x) for x in open(name).read().replace(",", " ").split()]
tokens, offsets, places = numbers("tokens.txt"), numbers("offsets.txt"), numbers("metadata_offsets.txt")
metadata = open("metadata.bin", "rb").read()
ids = [json.loads(l) for l in open("ids.txt")]
rows = [json.loads(l) for l in open("one.jsonl") if l.strip()][:40]
compared = 0
for i, (want, row) in enumerate(zip(ids, rows)):
    if offsets[i + 1] <= len(tokens):
        assert tokens[offsets[i]:offsets[i + 1]] == want, i
        compared += 1
    text = metadata[places[i]:places[i + 1]].decode()
    del row["text"]
    assert json.loads(text) == row, (text, row)
    assert list(json.loads(text)) == sorted(row), text
assert compared > 10, compared
d = json.load(open("inspect.json"))
assert d["kind"] == "token store" and d["documents"] == 105000 and d["verified"] is True, d
assert d["fields"] == {"url": {"string": 105000}, "year": {"integer": 104895, "string": 105},
                       "score": {"real": 35000}, "tags": {"object": 15000}}, d["fields"]
PY

# kill -9 of everything, again and again as soon as some shards more are there
parts() { find killed.h5.parts -name 'shard-*.h5' 2>/dev/null | wc -l || true; }
kills=0 round=0
while :; do
    round=$((round + 1)) had=$(parts)
    mpirun -n $((1 + round % 3)) "$graft" data build one.jsonl two.jsonl killed.h5 --model tiny >log 2>&1 &
    pid=$!
    while kill -0 $pid 2>/dev/null && [ "$(parts)" -lt $((had + 4)) ]; do sleep 0.01; done
    if [ $round -gt 4 ] || ! kill -0 $pid 2>/dev/null; then
        wait $pid || { cat log; die "going on after $kills kills"; }
        break
    fi
    ranks=$(pgrep -P $pid || true)
    # shellcheck disable=SC2086
    kill -9 $ranks $pid 2>/dev/null || true
    wait $pid 2>/dev/null || true
    for p in $ranks; do
        for _ in $(seq 200); do kill -0 "$p" 2>/dev/null || break; sleep 0.05; done
    done
    [ ! -e killed.h5 ] || die "killed too late"
    kills=$((kills + 1))
done
[ $kills -ge 2 ] || die "only $kills kills hit the build"
grep -q 'shards are there already' log || { cat log; die "nothing was taken over"; }
cmp want.h5 killed.h5 || die "the store after $kills kills"
clean killed.h5

# a build that a bad line stopped goes on when the line is mended; so does one with damaged parts
sed '40000s/"text"/"texd"/' two.jsonl >bad.jsonl
code=0
mpirun -n 3 "$graft" data build one.jsonl bad.jsonl mended.h5 --model tiny >log 2>&1 || code=$?
[ $code = 3 ] && grep -q "bad.jsonl:40000: missing field 'text'" log || { cat log; die "a bad line: code $code"; }
[ ! -e mended.h5 ] && [ "$(find mended.h5.parts -name 'shard-*.h5' | wc -l)" -gt 15 ] || die "the parts after a bad line"
truncate -s -100 mended.h5.parts/shard-000003.h5
printf x | dd of=mended.h5.parts/shard-000005.h5 bs=1 seek=70000 conv=notrunc status=none
touch mended.h5.parts/.shard-000009.h5.tmp-1-0
cp two.jsonl bad.jsonl
"$graft" data build one.jsonl bad.jsonl mended.h5 --model tiny >log 2>&1 || { cat log; die "the mended build"; }
grep -q 'shards are there already' log || { cat log; die "nothing was taken over"; }
cmp want.h5 mended.h5 || die "the mended store"
clean mended.h5

# a configuration names model and files; paths are relative to it
head -n 40 one.jsonl >train.jsonl
mkdir sub
sed 's/: tiny/: ..\/tiny/; s/train.jsonl/..\/train.jsonl/; s/heldout/..\/heldout/' run.yaml >sub/run.yaml
"$graft" data build sub/run.yaml configured.h5 >log
"$graft" data build train.jsonl plain.h5 --model "$("$graft" inspect configured.h5 --json | sed -n 's/.*"tokenizer": "\(.*\)",/\1/p')" >log
cmp plain.h5 configured.h5 || die "the store of a configuration"

# ---- bad input: code, one message with the place, nothing written ----
count=0
bad() { # CODE TEXT COMMAND...
    local code=$1 text=$2 got=0
    shift 2
    count=$((count + 1))
    timeout 60 "$@" >out.txt 2>err.txt || got=$?
    [ $got = "$code" ] && [ "$(grep -c '^graft: error: ' err.txt)" = 1 ] && grep '^graft: error: ' err.txt | grep -qF -- "$text" &&
        [ ! -e never.h5 ] && return 0
    cat err.txt
    die "exit code $got, not $code, or another message than '$text': $*"
}
bad_line() { # TEXT LINE: as line 3 of a file
    { head -n 2 two.jsonl && printf '%s\n' "$2" && head -n 2 two.jsonl; } >line.jsonl
    bad 3 "line.jsonl:3: $1" "$graft" data build line.jsonl never.h5 --model tiny
}
bad 2 "build" "$graft" data
bad 2 "build" "$graft" data bild one.jsonl never.h5
bad 2 "needs an input" "$graft" data build never.h5 --model tiny
bad 2 "--model is missing" "$graft" data build one.jsonl never.h5
bad 2 "--modle" "$graft" data build one.jsonl never.h5 --modle tiny
bad 2 "needs a value" "$graft" data build one.jsonl never.h5 --model
bad 2 "must be named .h5" "$graft" data build one.jsonl two.jsonl --model tiny
bad 2 "--text-field" "$graft" data build one.jsonl never.h5 --model tiny --text-field ""
bad 2 "leave one" "$graft" data build run.yaml never.h5 --model tiny
bad 2 "nowhere" "$graft" data build train.jsonl nowhere/never.h5 --model tiny
bad 3 "missing.jsonl" "$graft" data build missing.jsonl never.h5 --model tiny
bad 3 "missing.yaml" "$graft" data build missing.yaml never.h5
bad 3 "missing" "$graft" data build one.jsonl never.h5 --model missing
bad 3 "tiny" "$graft" data build tiny never.h5 --model tiny
bad 3 "token store already" "$graft" data build want.h5 never.h5 --model tiny
: >empty.jsonl
bad 3 "empty.jsonl" "$graft" data build train.jsonl empty.jsonl never.h5 --model tiny
echo kept >other.h5
bad 2 "other.h5: exists" "$graft" data build train.jsonl other.h5 --model tiny
[ "$(cat other.h5)" = kept ] || die "a foreign file was overwritten"
bad_line "invalid JSON" '{"text": "a"'
bad_line "expected a JSON object" '["text"]'
bad_line "missing field 'text'" '{"Text": "a"}'
bad_line "field 'text' is a number" '{"text": 1}'
bad_line "field 'text' is empty" '{"text": ""}'
bad_line "invalid UTF-8" "$(printf '{"text": "\xff"}')"
bad 3 "train.jsonl:1: missing field 'body'" "$graft" data build train.jsonl never.h5 --model tiny --text-field body
bad 3 "line.jsonl:3: " mpirun -n 3 "$graft" data build two.jsonl line.jsonl never.h5 --model tiny
bad 2 "must be named .h5" mpirun -n 2 "$graft" data build one.jsonl two.jsonl --model tiny
head -c 200000 want.h5 >never-cut.h5
bad 3 "never-cut.h5" "$graft" inspect never-cut.h5
cp want.h5 flipped.h5
printf x | dd of=flipped.h5 bs=1 seek=1000000 conv=notrunc status=none
"$graft" inspect flipped.h5 >/dev/null || die "a damaged block hinders inspect without --verify"
bad 3 "flipped.h5: dataset 'tokens': block 14 of" "$graft" inspect flipped.h5 --verify
printf x | dd of=flipped.h5 bs=1 seek=100 conv=notrunc status=none
bad 3 "head of the file" "$graft" inspect flipped.h5
echo "data build: ok, $kills kills, $count bad inputs"
