#!/usr/bin/env bash
# Conditional pretraining: both recipes learn what their metadata says, lines and token stores give the same run, and
# ranks, packing and resumes change no bit of it; inference with fields, and mistakes.
. "$(dirname "$0")/common.sh"
recipes=$here/../../configs/recipes
small_model >small.yaml

# Documents of two domains that share no word; one in eight is longer than a sequence.
python3 - <<'PY'
import json
words = {"a.org": "the noun inner them".split(), "b.com": "router on tour there".split()}
def line(i):
    domain = sorted(words)[i * 7 % 13 % 2]
    text = " ".join(words[domain][(i * 5 + k * k + k * i) % 4] for k in range(6 + i * 3 % 11 + 40 * (i % 8 == 0)))
    return json.dumps({"text": text, "domain": domain, "code": domain[0], "score": (i % 5) / 5000, "views": i}) + "\n"
with open("corpus.jsonl", "w") as f:
    f.writelines(line(i) for i in range(96))
with open("unseen.jsonl", "w") as f:
    f.writelines(line(i) for i in range(96, 112))
PY
"$graft" data build corpus.jsonl corpus.h5 --model tiny >/dev/null

# run RANKS RECIPE DATA OUT [key=value ...]: quiet unless it fails
run() {
    local ranks=$1 recipe=$2 data=$3 out=$4
    shift 4
    mpirun -n "$ranks" "$graft" train "$recipes/$recipe.yaml" 'model={config: small, tokenizer: tiny}' "data.train=$data" \
        data.eval=unseen.jsonl data.max_seq_length=64 "output_dir=$out" training.global_batch_tokens=null \
        training.global_batch_size=16 training.micro_batch_tokens=128 training.num_train_epochs=null \
        training.max_steps=40 stages=null training.learning_rate=1e-2 save_steps=20 logging_steps=1 "$@" 2>log ||
        { cat log; die "training $out"; }
}
# number KEY: of a JSON object on the standard input
number() { sed -n "s/.*\"$1\":\([-0-9.e+]*\).*/\1/p"; }
less() { awk -v a="$1" -v b="$2" 'BEGIN { exit !(a < b) }'; }

for recipe in meco control-codes; do
    run 1 $recipe corpus.jsonl $recipe
    run 2 $recipe corpus.h5 $recipe-2
    run 3 $recipe corpus.h5 $recipe-3 resume_from_checkpoint=$recipe-2/checkpoint-20.h5
    same $recipe/final.h5 $recipe-2/final.h5
    same $recipe/final.h5 $recipe-3/final.h5
    diff <(losses $recipe) <(losses $recipe-2) || die "losses of $recipe from a store on two ranks"

    # the evaluation of a run is of documents alone, as that of the command, whose micro-batches round differently
    plain=$("$graft" eval $recipe --data unseen.jsonl | number loss)
    during=$(sed -n 's/.*"eval_loss": *\([^,}]*\).*/\1/p' $recipe/metrics.jsonl | tail -1)
    awk -v a="$plain" -v b="$during" 'BEGIN { d = a - b; exit !(d < 1e-5 && d > -1e-5) }' ||
        die "eval_loss of $recipe is $during, graft eval says $plain"
    own=$("$graft" eval $recipe --data unseen.jsonl --condition-from-data | number loss)
    less "$own" "$(awk -v p="$plain" 'BEGIN { print p - 0.02 }')" ||
        die "$recipe: metadata do not help: $own with, $plain without"
    echo "$recipe: loss $own with metadata, $plain without"
done

# the recipe's cooldown brings the loss of documents without their metadata down
run 1 meco corpus.jsonl cooled 'stages=[{share: 0.9}, {share: 0.1, conditioning: none}]'
hot=$("$graft" eval meco --data unseen.jsonl | number loss)
cooled=$("$graft" eval cooled --data unseen.jsonl | number loss)
less "$cooled" "$hot" || die "cooldown: $cooled with, $hot without"

# a packing is no other run: the same losses up to rounding, until the schedule of so few steps differs
run 1 meco corpus.jsonl meco-none data.packing=none training.max_steps=2
paste <(losses meco | head -2) <(losses meco-none) |
    awk '{ d = $2 - $4; if (d < 0) d = -d; if (d > 1e-5) exit 1 }' || die "packing changes the losses"

# the right domain makes a text likelier than the wrong one; all its tokens are scored behind a slot, one fewer without
text='{"text": "the noun inner them the noun"}'
right=$(echo "$text" | "$graft" score meco --condition domain=a.org)
wrong=$(echo "$text" | "$graft" score meco --condition domain=b.com)
without=$(echo "$text" | "$graft" score meco)
less "$(echo "$wrong" | number sum)" "$(echo "$right" | number sum)" || die "the wrong domain is likelier: $wrong, $right"
tokens() { sed 's/.*"tokens":\[\([^]]*\)\].*/\1/' | tr , '\n' | wc -l; }
[ "$(echo "$right" | tokens)" = $(($(echo "$without" | tokens) + 1)) ] || die "tokens scored: $right, $without"
echo "the" | "$graft" generate meco --condition domain=a.org --max-new-tokens 8 >said
[ "$(wc -l <said)" = 1 ] || die "generate said nothing"
# an adapter brings the template of its run
run 1 meco corpus.jsonl lora model=tiny 'method={type: lora, r: 4}' training.max_steps=2
echo "$text" | "$graft" score tiny --adapter lora --condition domain=a.org >by-adapter
echo "$text" | "$graft" score tiny --adapter lora --template meco/config.yaml --condition domain=a.org >by-file
cmp by-adapter by-file || die "the template of an adapter"
# a template from another configuration; a threshold takes a number
echo "$text" | "$graft" score meco --template control-codes/config.yaml --condition code=a --condition score=0 >/dev/null
# the file itself: one domain for all documents
some=$("$graft" eval meco --data unseen.jsonl --condition domain=a.org | number loss)
[ -n "$some" ] || die "eval with a condition"

# refuse CODE TEXT COMMAND...: exits with CODE and says TEXT
refuse() {
    local code=$1 text=$2 got=0
    shift 2
    "$@" >out 2>err </dev/null || got=$?
    [ $got = "$code" ] && grep -qF -- "$text" err || { cat err; die "exit $got, wanted $code and '$text': $*"; }
}
refuse 2 "unknown field 'url'; known: 'domain'" "$graft" score meco --condition url=x
refuse 2 "field 'domain' is given twice" "$graft" score meco --condition domain=x --condition domain=y
refuse 2 "'domain=x' is given, but no adapter here chooses by a field and there is no template" \
    "$graft" score tiny --condition domain=x
refuse 2 "must be a number" "$graft" score control-codes --condition score=much
refuse 2 "exclude each other" "$graft" eval meco --data unseen.jsonl --condition domain=x --condition-from-data
refuse 2 "there is no template" "$graft" eval tiny --data unseen.jsonl --condition-from-data
sed 's/"domain"/"site"/' unseen.jsonl >other.jsonl
refuse 3 "other.jsonl:1: missing field 'domain', which the template needs" \
    "$graft" eval meco --data other.jsonl --condition-from-data
refuse 2 "heldout.jsonl: conditioning is for documents, but the format is prompt-completion" \
    "$graft" eval meco --data heldout.jsonl --condition-from-data
meco=("$graft" train "$recipes/meco.yaml" 'model={config: small, tokenizer: tiny}' data.max_seq_length=64
    output_dir=never)
sed 's/"domain": "a.org"/"domain": ["a"]/' corpus.jsonl >bad.jsonl
line=$(grep -nm1 '\["a"\]' bad.jsonl | cut -d: -f1)
refuse 3 "bad.jsonl:$line: field 'domain' is an array; the template needs a string, a number or a boolean" \
    "${meco[@]}" data.train=bad.jsonl
"$graft" data build bad.jsonl bad.h5 --model tiny >/dev/null
refuse 3 "bad.h5:document $((line - 1)): field 'domain' is an array" \
    "${meco[@]}" data.train=bad.h5
head -c 60000 corpus.h5 >cut.h5
refuse 3 "cut.h5" "${meco[@]}" data.train=cut.h5
[ ! -e never ] || die "a refused run wrote its directory"
echo "conditional pretraining: the same bits from lines and stores, on 1 to 3 ranks and after a resume"
