#!/usr/bin/env python3
"""usage: tensor_distance.py A.h5 B.h5 LIMIT

Compares the trained tensors of two checkpoints by their norms, |a - b| / |b|, prints the largest distance and fails when
it is above LIMIT or the tensors are not the same ones. Needs the HDF5 tools."""
import array, math, re, subprocess, sys, tempfile


def names(path):
    listing = subprocess.run(["h5ls", path + "/trainable"], check=True, capture_output=True, text=True).stdout
    return [re.sub(r"\\(.)", r"\1", re.match(r"(.*?[^\\])\s+Dataset", line)[1]) for line in listing.splitlines()]


def tensor(path, name):
    with tempfile.NamedTemporaryFile() as f:
        subprocess.run(["h5dump", "-d", "/trainable/" + name, "-b", "LE", "-o", f.name, path], check=True,
                       stdout=subprocess.DEVNULL)
        numbers = array.array("f")
        numbers.frombytes(open(f.name, "rb").read())
    assert numbers, name
    return numbers


a, b, limit = sys.argv[1], sys.argv[2], float(sys.argv[3])
assert names(a) == names(b) and names(a), (names(a), names(b))
worst = (0.0, "none")
for name in names(a):
    x, y = tensor(a, name), tensor(b, name)
    assert len(x) == len(y), name
    size = math.fsum(q * q for q in y)
    distance = math.sqrt(math.fsum((p - q) ** 2 for p, q in zip(x, y)) / size) if size else float(any(x))
    worst = max(worst, (distance, name)) if distance == distance else (math.inf, name)
print("%s %s: %.2g (%s)" % (a, b, *worst))
sys.exit(worst[0] > limit)
