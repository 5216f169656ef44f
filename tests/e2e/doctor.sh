#!/usr/bin/env bash
# graft doctor: one report whatever the number of ranks, whose facts are those of this machine.
. "$(dirname "$0")/common.sh"
"$graft" doctor >table || die "doctor"
grep -q 'matrix products.*oneDNN' table || { cat table; die "no library of products"; }
mpirun -n 2 "$graft" doctor --json >facts.json || die "doctor under mpirun"
python3 - <<'PY' || { cat facts.json; die "facts"; }
import json, os
lines = open("facts.json").read().splitlines()
assert len(lines) == 1
f = json.loads(lines[0])
assert f["libraries"]["ranks"] == 2 and f["processor"]["cores"] == os.cpu_count()
assert f["processor"]["gflops_one_thread"] > 0.1
total = int(open("/proc/meminfo").readline().split()[1]) / 1024
assert abs(f["memory"]["mib"] - total) < 1 and 0 < f["memory"]["mib_available"] < total
assert f["used"]["device"] == ("cuda" if f["cuda"]["usable_gpus"] else "cpu") and f["used"]["because"]
PY
code=0
"$graft" doctor --fast 2>log || code=$?
[ $code = 2 ] && grep -q "unknown option '--fast'" log || { cat log; die "an unknown option"; }
echo "doctor: ok"
