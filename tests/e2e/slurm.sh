#!/usr/bin/env bash
# The scripts of launch/slurm on a SLURM of our own (slurm_up), two nodes on this machine: each runs; a signal, by hand
# and by the time limit, saves, queues the job again and leads to the bits of an undisturbed run; a job that is stopped
# by hand stays so; what is wrong is said. Those for GPUs run on emulated devices.
# Exit code 77, and why, where SLURM cannot be started.
. "$(dirname "$0")/slurm_up"
missing=$(slurm_missing)
[ -z "$missing" ] || { echo "slurm: skipped: $missing"; exit 77; }
. "$(dirname "$0")/common.sh"
launch=$(cd "$here/../../launch/slurm" && pwd)
# the job's user is whoever may run mpirun; how ranks are bound is the scripts' business
unset OMPI_MCA_hwloc_base_binding_policy
export GRAFT=$graft GRAFT_LAUNCH=$launch
if [ -z "${KEEP:-}" ]; then trap 'slurm_down; rm -rf "$work"' EXIT; else trap slurm_down EXIT; fi
chmod 755 "$work"
slurm_up "$work/slurm" 2 "$(nproc)" || { tail -n 20 slurm/*.log; die "SLURM did not start"; }
passed() { echo "slurm: $* ($SECONDS s)"; }

options=(training.max_steps=120 save_steps=40 save_total_limit=0 eval_steps=0)
# submit NAME SBATCH-OPTION... SCRIPT ARGUMENT...: prints the job's number; its log is NAME.log
submit() { sbatch --parsable --output="$1.log" "${@:2}"; }
# one field of what SLURM knows about a job
field() { scontrol show job "$1" | tr ' ' '\n' | sed -n "s/^$2=//p"; }
# wait_for SECONDS COMMAND...
wait_for() {
    local end=$((SECONDS + $1))
    shift
    until "$@"; do
        [ $SECONDS -lt $end ] || return 1
        sleep 0.1
    done
}
ended() { case $(field "$1" JobState) in COMPLETED | FAILED | CANCELLED | TIMEOUT | NODE_FAIL) ;; *) false ;; esac; }
# completes NAME JOB
completes() {
    wait_for 60 ended "$2" || { tail -n 20 "$1.log"; scontrol show job "$2"; die "$1 does not end"; }
    [ "$(field "$2" JobState)" = COMPLETED ] || { tail -n 20 "$1.log"; scontrol show job "$2"; die "$1 failed"; }
}
scripts=(mpirun)
if srun --mpi=list 2>&1 | grep -w pmix >/dev/null; then
    scripts+=(srun)
else
    echo "slurm: skipped: cpu-srun, gpu-srun: this SLURM has no PMIx"
fi

# SLURM looks at its limits twice a minute, so this one runs beside the others: one minute, and the signal as early as can be
last=${scripts[-1]}
limit=$(submit limit --ntasks-per-node=1 --cpus-per-task=1 --time=1 --signal=B:USR1@59 "$launch/cpu-$last.sbatch" \
    run.yaml output_dir=limit logging_steps=1000 training.max_steps=1000000 save_steps=100000 eval_steps=0)

train 1 straight "${options[@]}" 2>log || { cat log; die "the undisturbed run"; }

# A program that notes how it was started: rank of its node, cores, GPUs it sees, its arguments; then it may be graft.
cat >probe <<PROBE
#!/bin/sh
echo "\$SLURMD_NODENAME \${OMPI_COMM_WORLD_LOCAL_RANK:-\$SLURM_LOCALID} \
\$(sed -n 's/^Cpus_allowed_list:.//p' /proc/self/status) \${CUDA_VISIBLE_DEVICES:-none} \$*" >>"\$PROBE"
[ -n "\$PROBE_ONLY" ] || exec "\${PROBE_GRAFT:-$graft}" "\$@"
PROBE
chmod 755 probe

# two ranks on one node, each with a core of its own
one_node() { # SCRIPT NAME
    local job
    job=$(GRAFT=$work/probe PROBE=$work/$2.ranks submit "$2" --ntasks-per-node=2 --cpus-per-task=1 "$launch/cpu-$1.sbatch" \
        run.yaml "output_dir=$2" "${options[@]}")
    completes "$2" "$job"
    same straight/final.h5 "$2/final.h5"
    bound "$2"
    passed "cpu-$1 on one node"
}
bound() {
    local ranks cores
    ranks=$(cut -d ' ' -f 2 "$1.ranks" | sort | tr '\n' ' ')
    cores=$(cut -d ' ' -f 3 "$1.ranks" | grep -x '[0-9]*' | sort -u | wc -l)
    [ "$ranks:$cores" = "0 1 :2" ] || { cat "$1.ranks"; die "$1: two ranks do not have a core each"; }
}
# one rank on each of two nodes, stopped by a signal on its way
two_nodes() { # SCRIPT NAME
    local job
    job=$(submit "$2" --nodes=2 --ntasks-per-node=1 --cpus-per-task=1 "$launch/cpu-$1.sbatch" \
        run.yaml "output_dir=$2" "${options[@]}")
    wait_for 30 test -s "$2/metrics.jsonl" || { tail -n 20 "$2.log"; die "$2 does not start"; }
    scancel --batch --signal=USR1 "$job"
    completes "$2" "$job"
    [ "$(field "$job" Restarts)" = 1 ] || { tail -n 20 "$2.log"; die "$2 was not queued again"; }
    same straight/final.h5 "$2/final.h5"
    diff <(losses straight) <(losses "$2") || die "metrics.jsonl of $2"
    passed "cpu-$1 on two nodes, saved, queued again and continued"
}
# Two ranks that ask for a GPU each: every rank sees both, so graft takes that of its local rank. They train on emulated
# devices, if there is a program with such.
gpus() { # SCRIPT NAME
    local job only=1
    [ -z "${GRAFT_ON_HOST:-}" ] || only=
    job=$(GRAFT=$work/probe PROBE=$work/$2.ranks PROBE_ONLY=$only PROBE_GRAFT=${GRAFT_ON_HOST:-} CUDA_ON_HOST_DEVICES=2 \
        submit "$2" --ntasks-per-node=2 --cpus-per-task=1 --gpus-per-node=2 "$launch/gpu-$1.sbatch" \
        run.yaml "output_dir=$2" training.max_steps=2 eval_steps=0)
    completes "$2" "$job"
    bound "$2"
    [ "$(grep -c ' 0,1 train run.yaml .*--device cuda' "$2.ranks")" = 2 ] || {
        cat "$2.ranks"
        die "gpu-$1: the ranks do not see both GPUs"
    }
    passed "gpu-$1: cores and GPUs by local rank"
    if [ -z "$only" ]; then
        [ "$(losses "$2" | wc -l)" = 2 ] || { tail -n 20 "$2.log"; die "gpu-$1 did not train"; }
        passed "gpu-$1: trained on emulated devices"
    else
        echo "slurm: skipped: gpu-$1: training, as GRAFT_ON_HOST names no program with emulated devices"
    fi
}
for script in "${scripts[@]}"; do
    one_node "$script" "$script-one"
    two_nodes "$script" "$script-two"
    gpus "$script" "$script-gpu"
done

# what is wrong is said, with graft's exit code for it
rejected() { # NAME MESSAGE SBATCH-ARGUMENT...
    local name=$1 message=$2 job
    shift 2
    job=$(submit "$name" "$@")
    wait_for 30 ended "$job" || die "$name does not end"
    [ "$(field "$job" ExitCode)" = 2:0 ] || { cat "$name.log"; die "$name: exit code $(field "$job" ExitCode)"; }
    grep -q "$message" "$name.log" || { cat "$name.log"; die "$name: the message is missing"; }
}
one=(--ntasks-per-node=1 --cpus-per-task=1)
rejected no-config "no configuration" "${one[@]}" "$launch/cpu-mpirun.sbatch"
rejected no-file "not there" "${one[@]}" "$launch/cpu-mpirun.sbatch" missing.yaml
GRAFT=$work/missing rejected no-program "is no program on every node" "${one[@]}" "$launch/cpu-mpirun.sbatch" run.yaml
GRAFT_LAUNCH=$work/missing rejected no-launch "common.sh" "${one[@]}" "$launch/cpu-mpirun.sbatch" run.yaml
passed "what is wrong is said"

# the time limit's own signal; then a stop by hand, which is the end
wait_for 90 grep -q "start 2" limit.log || { tail -n 20 limit.log; die "the time limit did not queue the job again"; }
grep -q "the time limit is near" limit.log || die "the time limit sent no signal"
wait_for 30 grep -q "resum" limit.log || { tail -n 20 limit.log; die "the second start does not continue"; }
scancel --batch --signal=USR2 "$limit"
wait_for 30 ended "$limit" || die "USR2 does not end the job"
ends="$(field "$limit" JobState) $(field "$limit" ExitCode)"
[ "$ends" = "FAILED 75:0" ] || { tail -n 20 limit.log; die "after USR2 the job is: $ends"; }
passed "cpu-$last up to its time limit, queued again, stopped by hand"
