#!/usr/bin/env bash
# Runs on each machine of a cluster as it starts: brings what foretaste needs beside the runtime's own packages, at the versions of
# a lock (make wheel), and Horovod where the runtime lacks it (all ML runtimes after 15.4 do) or another torch took its place.
# Horovod is built once, by whichever machine comes first, and kept as a wheel in $FORETASTE_WHEELS, a folder of a volume.
set -euo pipefail

python=${FORETASTE_PYTHON:-/databricks/python/bin/python}
lock=${FORETASTE_LOCK:?the path of dist/runtime.lock}
wheels=${FORETASTE_WHEELS:?a folder for the wheel of Horovod}

# The runtime's own: another Spark or Delta beside it would be loaded by half of the code. NVIDIA's libraries come with torch.
readonly runtime='^(pyspark|delta-spark|py4j|horovod)=='

works() { "$python" -c 'import horovod.torch' 2>/dev/null; }

install_packages() {
    local chosen
    chosen=$(mktemp)
    grep -E '^[a-z0-9-]+==' "$lock" | grep -vE "$runtime" >"$chosen"
    "$python" -m pip install --quiet --no-deps --requirement "$chosen"
    rm "$chosen"
}

# Today's torch headers ask for C++17, which Horovod's build does not: the shim adds it, last, so that it wins.
build_horovod() {
    local version build
    version=$(sed -n 's/^horovod==//p' "$lock")
    build=$(mktemp -d)
    printf '#!/bin/sh\nexec %s "$@" -std=c++17\n' "${CXX:-c++}" >"$build/cxx"
    chmod +x "$build/cxx"
    export HOROVOD_WITH_PYTORCH=1 HOROVOD_WITHOUT_TENSORFLOW=1 HOROVOD_WITHOUT_MXNET=1 HOROVOD_WITHOUT_MPI=1 HOROVOD_WITH_GLOO=1
    if command -v nvidia-smi >/dev/null && nvidia-smi >/dev/null 2>&1; then
        export HOROVOD_GPU_OPERATIONS=NCCL
    fi
    CXX=$build/cxx "$python" -m pip wheel --quiet --no-build-isolation --no-deps --wheel-dir "$build" "horovod==$version"
    mkdir -p "$wheels"
    for wheel in "$build"/horovod-*.whl; do # by a rename: another machine sees the whole of it or nothing
        cp "$wheel" "$wheels/.$(basename "$wheel").$$"
        mv "$wheels/.$(basename "$wheel").$$" "$wheels/$(basename "$wheel")"
    done
    rm -rf "$build"
}

"$python" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || {
    echo "foretaste: the lock is for Python 3.11, which this runtime has not; choose 15.4 LTS ML" >&2
    exit 1
}
install_packages
if ! works; then
    compgen -G "$wheels/horovod-*.whl" >/dev/null || build_horovod
    "$python" -m pip install --quiet --no-deps --force-reinstall "$wheels"/horovod-*.whl
    works || { echo "foretaste: Horovod does not load; remove $wheels and start the cluster again" >&2; exit 1; }
fi
