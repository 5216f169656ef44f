#!/usr/bin/env bash
# kills.sh COUNT [SEED]: kills training at COUNT random moments (a rank, mpirun, or everything), each time resuming on
# another number of ranks; every finished run must end in the same bits as one that was never disturbed. Every run has the
# next one of the methods.
. "$(dirname "$0")/common.sh"
count=${1:?usage: kills.sh COUNT [SEED]}
RANDOM=${2:-1}
steps=60
# a micro-batch has room for virtual tokens
common=(training.max_steps=$steps save_steps=2 save_total_limit=3 eval_steps=20 training.micro_batch_tokens=72)
sharding=(none zero1)
methods=(
    'method={type: lora, r: 4, lora_alpha: 8, lora_dropout: 0.1, target_modules: all-linear}'
    'method=[{type: prompt_tuning, num_virtual_tokens: 3}, {type: prefix_tuning, num_virtual_tokens: 2, prefix_projection: true}]'
    'method={type: full, learning_rate: 1.0e-3}'
    'method={type: p_tuning, num_virtual_tokens: 3, encoder_reparameterization_type: LSTM}'
    'method={type: prefix_tuning, num_virtual_tokens: 3}'
)

# Sets options and undisturbed for the method of this round; the undisturbed run is made when it is first asked for.
choose() {
    local m=$((($1 - 1) % ${#methods[@]})) begin
    undisturbed=undisturbed-$m
    options=("${common[@]}" "${methods[m]}" "training.optimizer_sharding=${sharding[m % 2]}")
    [ -d $undisturbed ] && return
    begin=$(date +%s%N)
    train 1 $undisturbed "${options[@]}" 2>log || { cat log; die "the undisturbed run with ${methods[m]}"; }
    milliseconds=$((($(date +%s%N) - begin) / 1000000))
}

# Ranks are children of mpirun in process groups of their own.
kill_something() { # pid of mpirun
    local ranks victim
    ranks=$(pgrep -P "$1" || true)
    case $((RANDOM % 3)) in
    0) victim=$(echo "$ranks" | shuf -n 1 --random-source=<(yes $RANDOM)) ;;
    1) victim=$1 ;;
    *) victim="$ranks $1" ;;
    esac
    # shellcheck disable=SC2086
    [ -z "$victim" ] || kill -9 $victim 2>/dev/null || true
    wait "$1" 2>/dev/null || true
    # a job may be started again only when the old one is gone
    local p tries=0
    for p in $ranks; do
        while kill -0 "$p" 2>/dev/null; do
            sleep 0.05
            tries=$((tries + 1))
            [ $tries -lt 200 ] || die "rank $p lives on 10 s after its job was killed"
        done
    done
}

kills=0 round=0 resumed=0
while [ $kills -lt "$count" ]; do
    round=$((round + 1))
    out=disturbed-$round
    choose $round
    while :; do
        ranks=$((1 + (kills + round) % 4))
        if [ $kills -ge "$count" ]; then
            train $ranks $out "${options[@]}" 2>log || { cat log; die "resuming on $ranks ranks after $kills kills"; }
            break
        fi
        mpirun -n $ranks "$graft" train run.yaml "output_dir=$out" "${options[@]}" 2>log &
        pid=$!
        # from the first instruction to somewhat past the end
        sleep "$(awk -v r=$RANDOM -v ms=$milliseconds 'BEGIN { print (0.1 + 1.0 * r / 32768) * ms / 1000 }')"
        if kill -0 $pid 2>/dev/null; then
            kill_something $pid
            kills=$((kills + 1))
            [ -e $out/latest ] && resumed=$((resumed + 1))
        else
            wait $pid || { cat log; die "resuming on $ranks ranks after $kills kills"; }
            break
        fi
    done
    same $undisturbed/final.h5 $out/final.h5
    diff <(losses $undisturbed) <(losses $out) || die "metrics.jsonl after kills"
    rm -rf "$out"
done
echo "kills: ok, $kills kills, $resumed of them with a checkpoint to resume from, $round runs"
