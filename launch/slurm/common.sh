# What the SLURM scripts share; sourced by them, never submitted. They ask for a signal before the time limit; graft then
# saves and exits with 75 (docs/failure-model.md), and the job puts itself into the queue again: its next start continues
# the run, with the same bits, until the run is complete.
# shellcheck shell=bash
set -uo pipefail

# The program: set GRAFT when you submit, or build in the directory you submit from. It must lie where every node sees it.
graft=${GRAFT:-${SLURM_SUBMIT_DIR:-.}/build/graft}

say() { echo "graft.sbatch: $*"; }
give_up() {
    say "$*" >&2
    exit 2
}

# check mpirun|srun RUN.YAML: what would go wrong later, said at once
check() {
    [ -n "${SLURM_JOB_ID:-}" ] || give_up "this is a script for sbatch: sbatch ${BASH_SOURCE[1]} run.yaml"
    [ -n "${2:-}" ] || give_up "no configuration: sbatch SCRIPT run.yaml [key=value ...]"
    [ -r "$2" ] || give_up "$PWD/$2 is not there"
    [ -n "${SLURM_CPUS_PER_TASK:+${SLURM_NTASKS_PER_NODE:-}}" ] ||
        give_up "the job needs --ntasks-per-node and --cpus-per-task; --ntasks alone leaves open which cores belong to whom"
    srun --ntasks-per-node=1 --ntasks="$SLURM_JOB_NUM_NODES" --mpi=none test -x "$graft" ||
        give_up "$graft is no program on every node: build it on a file system that all nodes share, or set GRAFT"
    case $1 in
    mpirun)
        command -v mpirun >/dev/null || give_up "no mpirun: load your site's Open MPI, the one that graft was built with"
        # without its SLURM part mpirun would look for ssh, or start all ranks on the first node
        if [ "$SLURM_JOB_NUM_NODES" -gt 1 ] && ! ompi_info 2>/dev/null | grep 'MCA plm: slurm' >/dev/null; then
            give_up "this Open MPI was built without SLURM: use a srun script"
        fi
        ;;
    srun)
        # with another interface each rank would believe that it is alone
        srun --mpi=list 2>&1 | grep -w pmix >/dev/null || give_up "this SLURM has no PMIx (srun --mpi=list): use an mpirun script"
        ;;
    esac
    say "job $SLURM_JOB_ID, start $((${SLURM_RESTART_COUNT:-0} + 1)): $SLURM_JOB_NUM_NODES nodes" \
        "with $SLURM_NTASKS_PER_NODE ranks of $SLURM_CPUS_PER_TASK cores, $1"
}

# run COMMAND...: runs it and hands signals on to it. USR1, from the time limit: saved, and queued again. USR2, from people
# (scancel --batch --signal=USR2 JOB): saved, and at an end.
run() {
    local pid code asked=""
    "$@" &
    pid=$!
    # a second signal would end graft at once, so it gets one
    trap 'if [ -z "$asked" ]; then asked=limit; say "the time limit is near: graft saves"; kill -USR1 "$pid"; fi' USR1
    trap 'if [ -z "$asked" ]; then kill -USR1 "$pid"; fi; asked=stop; say "asked to stop: graft saves"' USR2
    # SLURM sends TERM to the ranks itself: the script only has to stay until they have ended
    trap : TERM
    while :; do
        wait "$pid" # ends early when a signal comes
        code=$?
        kill -0 "$pid" 2>/dev/null || break
    done
    if [ $code = 75 ] && [ "$asked" = limit ]; then
        say "saved; the job queues itself again"
        scontrol requeue "$SLURM_JOB_ID" || say "cannot be queued again: submit it once more, and the run continues" >&2
    fi
    exit $code
}

# Ranks of a node take its cores in order, cpus-per-task each, so those of one rank lie in one socket where they can.
run_mpirun() {
    run mpirun -n "$SLURM_NTASKS" --map-by "slot:PE=$SLURM_CPUS_PER_TASK" --bind-to core "$@"
}

# A rank that ends with 75 must not have the others killed (kill-on-bad-exit); one that dies has, after a minute (wait).
# Without --gpus-per-task and --gpu-bind all ranks of a node see all GPUs of the job there: graft takes the one of its
# local rank, and GPUs reach each other directly. (--gpu-bind=none would show the GPUs of other jobs, too.)
run_srun() {
    run srun --mpi=pmix --cpus-per-task="$SLURM_CPUS_PER_TASK" --cpu-bind=cores --distribution=block:block \
        --kill-on-bad-exit=0 --wait=60 "$@"
}
