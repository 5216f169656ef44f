#!/usr/bin/env bash
# DEMix: the recipe learns its domains, with the same bits on any number of ranks and after a resume; experts on a
# finished base; exports of one domain; mixtures over domains against the same sums made by hand; what is refused.
. "$(dirname "$0")/common.sh"
recipe=$here/../../configs/recipes/demix.yaml
python3 "$here/tiny_model.py" gpt2 gpt2
small_model >small.yaml
python3 - <<'PY'
import json
words = {"scripture": "the noun inner them".split(), "fiction": "router on tour there".split(),
         "reference": "another tin rerun anna".split()}
names = list(words)
def line(i, name):
    text = " ".join(words[name][(i * 5 + k * k + k * i) % 4] for k in range(6 + i * 3 % 11))
    return json.dumps({"text": text, "domain": name}) + "\n"
with open("corpus.jsonl", "w") as f:
    f.writelines(line(i, names[i * 7 % 11 % 3]) for i in range(96))
for name in names:
    with open(name + ".jsonl", "w") as f:
        f.writelines(line(i, name) for i in range(96, 104))
lines = [json.loads(line(i, names[i % 3])) for i in range(200, 209)]
with open("unknown.jsonl", "w") as f: # texts and prompts whose domain nobody tells, and one that is no domain here
    f.writelines(json.dumps({"text": x["text"]}) + "\n" for x in lines)
    f.write(json.dumps({"text": "an other noun on tour", "domain": "poetry"}) + "\n")
with open("halves.jsonl", "w") as f:
    for x in lines:
        cut = x["text"].index(" ", len(x["text"]) // 2)
        f.write(json.dumps({"prompt": x["text"][:cut], "completion": x["text"][cut:]}) + "\n")
PY
options=(training.global_batch_tokens=null training.global_batch_size=12 training.micro_batch_tokens=64
    training.num_train_epochs=null training.learning_rate=1.0e-2 training.max_grad_norm=1.0 save_steps=15 logging_steps=1
    data.max_seq_length=64)
# run RANKS OUT [key=value ...]: quiet unless it fails
run() {
    local ranks=$1 out=$2
    shift 2
    mpirun -n "$ranks" "$graft" train "$recipe" data.train=corpus.jsonl "output_dir=$out" "${options[@]}" "$@" 2>log ||
        { cat log; die "training $out"; }
}
# three RANKS' WORTH of one run: OUT [key=value ...]
three() {
    local out=$1
    shift
    run 1 "$out" "$@"
    run 2 "$out-2" "$@"
    run 3 "$out-3" "$@" "resume_from_checkpoint=$out-2/checkpoint-15.h5" training.gradient_checkpointing=true
    same "$out/final.h5" "$out-2/final.h5"
    same "$out/final.h5" "$out-3/final.h5"
    diff <(losses "$out") <(losses "$out-2") || die "losses of $out on two ranks"
    losses "$out" | awk 'NR == 1 { a = $2 } { b = $2 } END { exit !(b < 0.8 * a) }' || { losses "$out"; die "$out does not learn"; }
}
demix='{type: demix, domains: {field: domain, values: [scripture, fiction, reference]}}'
three both 'model={config: small, tokenizer: tiny}' training.max_steps=45
h5ls -r both/final.h5/trainable | grep Dataset >tensors
[ "$(grep -c '/demix.*experts.weight' tensors)" = 6 ] && ! grep -q '/model.*mlp' tensors || { cat tensors; die "the base's own feed-forward layers are trained"; }
three gpt2-experts 'model={path: gpt2}' "method=$demix" training.max_steps=30
[ "$(h5ls -r gpt2-experts/final.h5/trainable | grep -c Dataset)" = 8 ] || die "GPT-2's experts lack biases"

# step 0 is the base
run 1 start 'model={path: tiny}' "method=$demix" training.max_steps=1
run 1 plain 'model={path: tiny}' 'method={type: lora}' training.max_steps=1
paste <(losses start) <(losses plain) | awk '{ d = $2 - $4; if (d < 0) d = -d; exit !(d <= 1e-5 * $2) }' || die "experts do not start as the base"

# an export is the model of its domain, for every command
for base in both gpt2-experts; do
    for domain in scripture fiction; do
        "$graft" export $base --format merged-safetensors $base-$domain --method demix --condition domain=$domain >/dev/null
        "$graft" eval $base --data $domain.jsonl >a.json
        "$graft" eval $base-$domain --data $domain.jsonl --max-seq-length 64 >b.json
        cmp a.json b.json || { cat a.json b.json; die "the export of $base for $domain"; }
        echo '{"prompt": "the noun"}' | "$graft" generate $base --condition domain=$domain --max-new-tokens 6 --json >a.json
        echo '{"prompt": "the noun"}' | "$graft" generate $base-$domain --max-new-tokens 6 --json >b.json
        cmp a.json b.json || { cat a.json b.json; die "$base generates otherwise than its export for $domain"; }
    done
    ! cmp -s $base-scripture/model.safetensors $base-fiction/model.safetensors || die "all experts of $base are one"
done

# mixtures: by hand from the scores of the single domains
for domain in scripture fiction reference; do
    "$graft" score both --condition domain=$domain <unknown.jsonl >one-$domain.json
done
for kind in uniform posterior; do
    "$graft" score both --mixture $kind <unknown.jsonl >score-$kind.json
    [ "$(wc -l <score-$kind.json)" = 10 ] || die "score --mixture $kind leaves lines out"
    "$graft" score both --mixture $kind <halves.jsonl >halves-$kind.json
    sed '/poetry/d' unknown.jsonl >known.jsonl
    "$graft" eval both --mixture $kind --data known.jsonl >eval-$kind.json
    mpirun -n 3 "$graft" eval both --mixture $kind --data known.jsonl >eval-3.json
    cmp eval-$kind.json eval-3.json || die "eval --mixture $kind on three ranks"
    "$graft" eval both --mixture $kind --data unknown.jsonl >/dev/null || die "eval --mixture refuses an unknown domain"
done
for domain in scripture fiction reference; do
    "$graft" eval both --mixture posterior --data $domain.jsonl >mixed-$domain.json
    "$graft" eval both --data $domain.jsonl >right-$domain.json
    sed 's/, "domain": "[a-z]*"//' $domain.jsonl >bare.jsonl
    other=scripture
    [ $domain != scripture ] || other=fiction
    "$graft" eval both --data bare.jsonl --condition domain=$other >wrong-$domain.json
done
python3 - <<'PY' || die "mixtures"
import json, math
names = "scripture fiction reference".split()
def read(name):
    return [json.loads(line) for line in open(name + ".json")]
one = [read("one-" + n) for n in names]
def log_sum(x):
    return max(x) + math.log(sum(math.exp(v - max(x)) for v in x))
for kind in "uniform", "posterior":
    total, weight, ends = 0.0, 0, []
    for i, (got, half) in enumerate(zip(read("score-" + kind), read("halves-" + kind))):
        p = [[x[i]["logprobs"][t] for x in one] for t in range(len(one[0][i]["logprobs"]))]
        post, want = [-math.log(3)] * 3, []
        for row in p:
            prior = post if kind == "posterior" else [-math.log(3)] * 3
            want.append(log_sum([a + b for a, b in zip(prior, row)]))
            post = [a + b for a, b in zip(post, row)]
            post = [a - log_sum(post) for a in post]
        assert got["tokens"] == one[0][i]["tokens"]
        assert max(abs(a - b) for a, b in zip(got["logprobs"], want)) < 2e-6, (kind, i, got, want)
        # a prompt has no weight but belongs to the history
        n = len(half["logprobs"])
        assert half["tokens"] == got["tokens"][-n:], (half, got)
        assert max(abs(a - b) for a, b in zip(half["logprobs"], got["logprobs"][-n:])) < 2e-5, (kind, half, got)
        ends.append([math.exp(a) for a in post])
    result, = read("eval-" + kind)
    for j, n in enumerate(names):
        assert abs(result["posterior"][n] - sum(e[j] for e in ends) / len(ends)) < 0.2, (kind, result, ends)
    assert result["mixture"] == kind and "exact_match" not in result
for n in names:
    mixed, right = read("mixed-" + n)[0], read("right-" + n)[0]
    assert max(mixed["posterior"], key=mixed["posterior"].get) == n and mixed["posterior"][n] > 0.6, mixed
    assert abs(sum(mixed["posterior"].values()) - 1) < 1e-6
    bound = 8 * math.log(3) / mixed["weight"] # the prior is all that the mixture can lose in a sequence
    assert right["loss"] - bound < mixed["loss"] <= right["loss"] + bound + 1e-6, (mixed, right)
    wrong, = read("wrong-" + n)
    assert mixed["loss"] < wrong["loss"] - 0.1, (mixed, wrong)
assert read("eval-posterior")[0]["loss"] < read("eval-uniform")[0]["loss"]
PY

# what is refused, and that nothing is written then
refused() { # CODE TEXT COMMAND...
    local code=$1 text=$2 got=0
    shift 2
    "$@" >out.txt 2>err.txt || got=$?
    [ $got = "$code" ] || { cat err.txt; die "exit code $got, not $code: $*"; }
    grep '^graft: error: ' err.txt | grep -qF -- "$text" || { cat err.txt; die "the message lacks '$text'"; }
    [ ! -e never ] || die "a refused command wrote its directory: $*"
}
new=("$graft" train "$recipe" 'model={path: tiny}' data.train=corpus.jsonl output_dir=never "${options[@]}" training.max_steps=2)
refused 2 "missing key 'domains' in method" "${new[@]}" 'method={type: demix}'
refused 2 "names 2 fields; one chooses the domain" "${new[@]}" 'method={type: demix, domains: [{field: domain, values: [a, b]}, {field: task, values: [c, d]}]}'
refused 2 "it must have 2 to" "${new[@]}" 'method={type: demix, domains: {field: domain, values: [scripture]}}'
refused 2 "domains have no virtual tokens" "${new[@]}" 'method={type: demix, domains: {field: domain, values: [a, b], num_virtual_tokens: 3}}'
refused 2 "'a'" "${new[@]}" 'method={type: demix, domains: {field: domain, values: [a, a]}}'
refused 2 "did you mean 'domains'?" "${new[@]}" 'method={type: demix, domain: {field: domain, values: [a, b]}}'
refused 2 "two entries of the type 'demix'" "${new[@]}" "method=[$demix, $demix]"
refused 2 "different labels" "${new[@]}" "method=[$demix, {type: prompt_tuning, num_virtual_tokens: 2, prompts: {field: domain, values: [fiction, scripture]}}]"
sed 's/"fiction"/"ficton"/' corpus.jsonl >typo.jsonl
refused 3 "field 'domain' has the unknown value 'ficton'; did you mean 'fiction'?" "${new[@]}" "method=$demix" data.train=typo.jsonl
sed '7s/, "domain": "[a-z]*"//' corpus.jsonl >lacks.jsonl
refused 3 "lacks.jsonl:7: missing field 'domain'" "${new[@]}" "method=$demix" data.train=lacks.jsonl
refused 2 "wrapped" "${new[@]}" "method=$demix" data.packing=wrapped
refused 3 "holds other experts" "${new[@]}" 'method={type: demix, domains: {field: domain, values: [fiction, scripture, reference]}, init_from: gpt2-experts}'
refused 3 "fits nothing" "${new[@]}" 'method={type: demix, domains: {field: domain, values: [scripture, fiction, reference]}, init_from: gpt2-experts}'
refused 2 "choose it with --condition domain=..., one of: scripture, fiction, reference" "$graft" export both --format merged-safetensors never --method demix
refused 2 "PEFT has no domain experts" "$graft" export both --format peft never --method demix --condition domain=fiction
refused 2 "field 'domain' has no value 'ficton'" "$graft" eval both --data fiction.jsonl --condition domain=ficton
refused 2 "'posteriors' is not known" "$graft" eval both --data fiction.jsonl --mixture posteriors
refused 2 "remove one of the two" "$graft" score both --mixture uniform --condition domain=fiction
refused 2 "no adapter here chooses" "$graft" eval both-fiction --data fiction.jsonl --mixture uniform
refused 2 "give one of them" "$graft" eval both --data halves.jsonl --mixture uniform --ensemble mean --ensemble-field domain
refused 2 "--mixture" "$graft" generate both --mixture uniform
refused 3 "missing field 'domain'" "$graft" eval both --data known.jsonl
echo "demix: ok"
