"""What peers.py and ratios.py share: their options, and running a command."""
import argparse
import os
import subprocess


def options(**more):
    """The options of both, and `more` with their defaults; paths are made absolute."""
    p = argparse.ArgumentParser()
    for name in "graft", "python", "model", "data", "work":
        p.add_argument("--" + name, required=True)
    for name, standard in dict(rounds=5, threads=2, **more).items():
        p.add_argument("--" + name, type=type(standard), default=standard)
    o = p.parse_args()
    o.graft, o.model, o.data = os.path.abspath(o.graft), os.path.abspath(o.model), os.path.abspath(o.data)
    os.makedirs(o.work, exist_ok=True)
    return o


def output(command, **more):
    """What it prints; its failure ends this program."""
    run = subprocess.run(command, capture_output=True, text=True, check=False, **more)
    if run.returncode:
        raise SystemExit(f"{command[0]}: exit code {run.returncode}\n{run.stderr[-2000:]}")
    return run.stdout
