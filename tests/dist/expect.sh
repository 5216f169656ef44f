# Sourced by the scripts beside it: $program is run by mpirun and must end as expected; `exit $failed` at the end.
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
log=$(mktemp)
trap 'rm -f "$log"' EXIT
failed=0
most=1 # lines of output that may have the text

# expect CODE SECONDS TEXT RANKS [ARGUMENT...]: exit code, time limit, and 1 to $most lines of output that have TEXT
expect() {
    code=$1 limit=$2 text=$3 ranks=$4
    shift 4
    start=$(date +%s)
    timeout 60 mpirun --oversubscribe -n "$ranks" "$program" "$@" >"$log" 2>&1
    rc=$?
    took=$(($(date +%s) - start))
    lines=$(grep -c "$text" "$log")
    if [ $rc -ne "$code" ] || [ $took -gt "$limit" ] || [ "$lines" -lt 1 ] || [ "$lines" -gt $most ]; then
        echo "FAILED: $ranks ranks, arguments '$*': exit code $rc (want $code), $took s (limit $limit)"
        cat "$log"
        failed=1
    fi
}
