#!/usr/bin/env bash
# Stopping and going on: USR1 and TERM save and exit 75; a resume on another number of ranks ends in the same bits; a
# damaged newest checkpoint is named and the one before it used; a changed configuration is refused.
. "$(dirname "$0")/common.sh"
options=(training.max_steps=120 save_steps=40 save_total_limit=0 eval_steps=0)
train 1 straight "${options[@]}" 2>log || { cat log; die "the undisturbed run"; }

for signal in USR1 TERM; do
    out=stopped-$signal
    if [ $signal = USR1 ]; then
        mpirun -n 2 "$graft" train run.yaml "output_dir=$out" "${options[@]}" 2>log &
    else # mpirun gives its ranks one second after TERM, so this one goes to the program itself
        "$graft" train run.yaml "output_dir=$out" "${options[@]}" 2>log &
    fi
    pid=$!
    for _ in $(seq 600); do
        [ -s "$out/metrics.jsonl" ] && break
        sleep 0.02
    done
    kill -$signal $pid
    code=0
    wait $pid || code=$?
    [ $code = 75 ] || { cat log; die "exit code after $signal is $code, not 75"; }
    [ ! -e "$out/final.h5" ] || die "$signal came too late to stop the run"
    ls "$out"/checkpoint-*.h5 >/dev/null || die "$signal saved nothing"
    train 3 "$out" "${options[@]}" 2>log || { cat log; die "resuming after $signal"; }
    same straight/final.h5 "$out/final.h5"
    diff <(losses straight) <(losses "$out") || die "metrics.jsonl after $signal"
done

# damage: the end of the newest checkpoint is lost, or one bit of it flips
for damage in truncated flipped; do
    out=damaged-$damage
    train 2 "$out" "${options[@]}" 2>/dev/null
    rm "$out/final.h5"
    newest=$(find "$out" -name 'checkpoint-*.h5' | sort -V | tail -n 1)
    python3 - "$newest" $damage <<'PY'
import sys
path, damage = sys.argv[1:]
data = bytearray(open(path, "rb").read())
if damage == "truncated":
    data = data[:len(data) * 2 // 3]
else:
    data[len(data) // 2] ^= 1
open(path, "wb").write(data)
PY
    train 2 "$out" "${options[@]}" 2>log || { cat log; die "resuming past a $damage checkpoint"; }
    grep -q "$(basename "$newest")" log || { cat log; die "the $damage checkpoint is not named"; }
    same straight/final.h5 "$out/final.h5"
done

# another learning rate is another run: refused, said why, and nothing touched
before=$(find straight -type f -exec cksum {} + | sort)
code=0
train 1 straight "${options[@]}" training.learning_rate=0.5 2>log || code=$?
[ $code = 2 ] || { cat log; die "a changed configuration exits with $code, not 2"; }
grep -q learning_rate log || { cat log; die "the message does not name the key that changed"; }
[ "$before" = "$(find straight -type f -exec cksum {} + | sort)" ] || die "a refused run changed files"
echo "resume: ok"
