#!/bin/bash
# Everything that needs a GPU, in under 8 minutes, from a folder that was built elsewhere.
#   tests/gpu/run.sh pack BUILD FOLDER        where it was built: programs, libraries, the embedded model (below 64 MiB)
#   FOLDER/run.sh [--install] [--seconds N] [checks|speed]
#                                             where the GPU is: checks, then measures; prints a section for BENCH.md
# --seconds: when the whole ends itself at the latest (480); what did not come to its turn is named.
# --install (root, on a machine to be thrown away): libraries and bubblewrap that are missing go to /usr, where a
# box finds them; without, `agon synth` runs only where nothing is missing. Exit status 0: all that ran is good.
set -u
here=$(cd "$(dirname "$0")" && pwd)

# ---- pack

pack() {
    local build=$1 to=$2 stage root program
    root=$(cd "$here/../.." && pwd)
    stage=$(mktemp -d) && mkdir -p "$stage/bin" "$stage/lib" "$to/embedded" "$to/sources" "$to/tests/model" || exit 1
    cp "$here/run.sh" "$here/oracle.py" "$to/"
    cp "$root/tests/tap.py" "$to/tests/" && cp "$root"/tests/model/{server,test_sample,test_serve}.py "$to/tests/model/" || exit 1
    cp "$root"/model/embedded/{config.json,tokenizer.json,EXAMPLES.md,skeletons.bin,model*} "$to/embedded/"
    cp /usr/share/zoneinfo/zone1970.tab /usr/share/iso-codes/json/iso_{4217,3166-3}.json "$to/sources/"
    cp -r "$root/synth/prompts" "$to/"
    git -C "$root" describe --always --dirty >"$to/commit"
    for program in "$build"/agon "$build"/agon-{cell,parse,cuda.so} "$build"/tests/gpu/{test,bench}_gpu_*; do
        [ -f "$program" ] || continue
        strip -o "$stage/bin/$(basename "$program")" "$program" || exit 1
    done
    cp "$(command -v bwrap)" "$stage/bin/" || exit 1
    # What the C library's own package has, every machine has.
    ldd "$stage"/bin/* | awk '$3 ~ /^\// {print $3}' | sort -u | grep -vE '/(libc|libm|libdl|librt|libpthread)\.so' |
        xargs -I{} cp -L {} "$stage/lib/"
    # The programs hold the same kernels: a window over all of them keeps these once.
    tar c -C "$stage" bin lib | xz -T1 --lzma2=preset=3,dict=64MiB >"$to/programs.tar.xz" || exit 1
    rm -rf "$stage"
    du -sk "$to" | awk '{printf "%s: %.1f MiB\n", $2, $1 / 1024; exit $1 >= 65536}'
}

# ---- the machine

# Programs to $work/bin; libraries that this machine lacks to $work/lib, or to /usr.
unpack() {
    local install=$1 library name missing=
    tar xJf "$here/programs.tar.xz" -C "$work" && chmod -R a+rX "$work" || exit 1
    for library in "$work"/lib/*; do
        name=$(basename "$library")
        if ldconfig -p | grep -q "[[:space:]]$name "; then
            rm "$library"
        elif [ "$install" = yes ]; then
            cp "$library" /usr/lib/x86_64-linux-gnu/ || exit 1
        else
            missing="$missing $name"
        fi
    done
    [ "$install" = no ] || ldconfig
    command -v bwrap >/dev/null || { [ "$install" = yes ] && cp "$work/bin/bwrap" /usr/bin/; } || missing="$missing bwrap"
    rm "$work/bin/bwrap"
    boxless=$missing
}

# The GPUs that CUDA shows, one a line.
gpus() {
    nvidia-smi --query-gpu=name,driver_version --format=csv,noheader ${CUDA_VISIBLE_DEVICES:+--id="$CUDA_VISIBLE_DEVICES"}
}

# One of our programs; not python3 or the profilers, whose libraries are this machine's.
own() { LD_LIBRARY_PATH="$work/lib:${LD_LIBRARY_PATH:-}" "$@"; }

# Seconds until this many after the beginning, at most $2: so the whole ends in time, whatever hangs.
left() {
    local seconds=$(($1 + begin - SECONDS))
    echo $((seconds < 1 ? 1 : seconds < $2 ? seconds : $2))
}

# ---- checks: beside each other, for they measure nothing

# One row of the table: TAP is counted. A sanitizer that runs out of time has said nothing.
row() {
    local name=$1 code=$2 seconds=$3 out=$work/out/$1 ok skip bad more=
    ok=$(grep -c '^ok' "$out")
    skip=$(grep -c '^ok.*# SKIP' "$out")
    bad=$(grep -c '^not ok' "$out")
    case $name in memcheck* | racecheck*) more=$(grep -o 'SUMMARY: .*' "$out" | tail -n 1) ;; esac
    if [ "$code" = 124 ] || [ "$code" = 137 ]; then
        more="not done in time"
        [ -z "${name##*check-*}" ] || bad=$((bad + 1))
    elif [ "$code" != 0 ] && [ "$bad" = 0 ]; then
        bad=1
    fi
    echo "$bad" >"$out.bad"
    echo "| $name | $((ok - skip)) | $bad | $skip | $seconds | ${more#SUMMARY: } |"
}

# one NAME SECONDS COMMAND...: a check and its row.
one() {
    local name=$1 seconds=$2 from=$SECONDS
    shift 2
    if [ $((from - begin)) -ge $checks_end ]; then
        echo "| $name | | | | | its turn did not come |"
        echo 0 >"$work/out/$name.bad"
        return
    fi
    own timeout -k 5 "$(left $checks_end "$seconds")" "$@" >"$work/out/$name" 2>&1
    row "$name" $? $((SECONDS - from))
}

# start NAME SECONDS COMMAND...: the same beside others.
start() {
    while [ "$(jobs -rp | wc -l)" -ge $beside ]; do wait -n; done
    one "$@" &
    names="$names $1"
}

# What was not ok, below the table.
failures() {
    local name
    for name in $names; do
        [ "$(cat "$work/out/$name.bad")" = 0 ] && continue
        failed=$((failed + $(cat "$work/out/$name.bad")))
        echo "- $name:"
        { grep -E '^not ok|^=========.*(Invalid|Race|hazard)' -B 4 "$work/out/$name" || tail -n 4 "$work/out/$name"; } |
            head -n 12 | cut -c1-180 | sed 's/^/    /'
    done
}

# Twelve random models as transformers computes them, then both engines.
transformers() {
    python3 "$here/oracle.py" "$work/oracles" >/dev/null && AGON_ORACLES=$work/oracles "$work/bin/test_gpu_engine" transformers
}

# agon with agon-cuda.so beside it: what it says of 300 ids, by device.
plugin() {
    local device
    python3 -c 'import json; print(json.dumps({"input_ids": [(i * 7919 + 3) % 2000 for i in range(300)]}))' >"$work/ids.json"
    for device in cpu cuda:reference cuda; do
        "$work/bin/agon" model logits "$AGON_EMBEDDED" --device $device <"$work/ids.json" >"$work/$device.json" || return 1
    done
    python3 - "$work" <<'END'
import json, sys
cpu, reference, fast = (json.load(open(f"{sys.argv[1]}/{d}.json")) for d in ("cpu", "cuda:reference", "cuda"))
def apart(said):
    return max(abs(a - b) for a, b in zip(said["logits_last"], cpu["logits_last"])), sum(a == b for a, b in zip(said["argmax"], cpu["argmax"]))
for name, said in (("cuda:reference", reference), ("cuda", fast)):
    print("# agon model logits --device %s: last row within %.2g of the cpu's, %d of 300 best ids" % (name, *apart(said)))
good = apart(reference)[0] < 1e-3 and apart(reference)[1] == 300 and reference["topk"] == cpu["topk"]
print("ok 1 - plugin" if good else "not ok 1 - plugin")
END
}

# A small corpus, made and verified.
synth() {
    printf 'time_zones: time zones of the world\ncurrencies: ISO 4217 currencies\n' >"$work/categories.txt"
    "$work/bin/agon" synth general --corpus "$work/corpus" --categories "$work/categories.txt" --source "$here/sources" \
        --prompts "$here/prompts" --model "local:$AGON_EMBEDDED" --device cuda --levels 2 --lines 1 --rollouts 8 | grep -E 'kept, the' &&
        "$work/bin/agon" verify "$work/corpus" | tail -n 2 && echo "ok 1 - synth"
}

# What trainers and clients use, over the GPU: tests/model's own.
served() { AGON_TEST_DEVICE=cuda python3 "$here/tests/model/test_$1.py" "$work/bin/agon" "$AGON_EMBEDDED"; }

# sanitize TOOL NAME PROGRAM CASE: accesses; calls that NCCL makes to see whether they work are none of ours.
sanitize() {
    local calls=
    [ "$1" = racecheck ] || calls="--report-api-errors no"
    start "$1-$2" 90 compute-sanitizer --tool "$1" $calls --error-exitcode 99 "$work/bin/test_gpu_$3" "$4"
}

# The long ones first. Racecheck takes a thousand times as long as a kernel alone: it sees few rows, and
# no kernel that orders its threads by bar.arrive (mla), a cluster's barrier (topk) or a copy's own (indexer).
checks() {
    local program sanitizer=true
    command -v compute-sanitizer >/dev/null || sanitizer=false
    echo "| check | passed | failed | skipped | s | |"
    echo "|---|---|---|---|---|---|"
    start engine 150 "$work/bin/test_gpu_engine"
    start transformers 120 bash -c transformers
    # Each agon takes 80% of the memory that it finds: one after the other.
    {
        one plugin 60 bash -c plugin
        one agon-sample 60 bash -c "served sample"
        one agon-serve 90 bash -c "served serve"
        [ -n "$boxless" ] || one synth 90 bash -c synth
        one caches 60 "$work/bin/test_gpu_engine" hundred_rollouts_fits
        ! $sanitizer || one memcheck-layer 60 compute-sanitizer --error-exitcode 99 "$work/bin/bench_gpu_layer" 16 16 4096
    } &
    names="$names plugin agon-sample agon-serve caches"
    [ -n "$boxless" ] || names="$names synth"
    ! $sanitizer || names="$names memcheck-layer"
    if $sanitizer; then
        sanitize memcheck engine engine logits_and_selections_of_odd
        sanitize memcheck fast engine nor_in_fast_mode
        sanitize memcheck forced engine forced_experts
        sanitize memcheck ranks ranks few_models
        sanitize memcheck products gemm the_fast_product_is_near
        sanitize memcheck experts moe experts_in_fast_mode
        sanitize memcheck latents mla fast_attention_is_its_twin
        sanitize memcheck indexer indexer fast_scores
        sanitize memcheck topk topk is_exact_on
        sanitize memcheck sample sample few_rows
        sanitize memcheck stack stack few_rows
        for program in gemm sample small; do
            sanitize racecheck $program $program few_rows
        done
    fi
    for program in "$work"/bin/test_gpu_*; do
        [ "${program##*_}" = engine ] || start "${program##*test_gpu_}" 90 "$program"
    done
    wait
    failures
    [ -z "$boxless" ] || echo "agon synth: left out, this machine lacks$boxless (run.sh --install)"
    grep -hE '^# (agon model|[a-z:]+, [0-9]+ ranks|.* on cuda:reference|embedded:|model [0-9])|environments? (and|,)|environments kept' \
        "$work"/out/{plugin,synth,transformers,ranks,engine} 2>/dev/null | sed 's/^# */    /' | cut -c1-160
}

# ---- speed: one after the other

# measure SECONDS COMMAND...: its output, and how long it took.
measure() {
    local seconds=$1 from=$SECONDS code
    shift
    if [ $((SECONDS - begin)) -ge $speed_end ]; then
        echo "${1##*/}: its turn did not come"
        return
    fi
    own timeout -k 5 "$(left $speed_end "$seconds")" "$@" 2>&1
    code=$?
    [ $code = 0 ] || { failed=$((failed + 1)) && echo "${1##*/} ended with $code (124, 137: not done in time)"; }
    echo "(${*##*/}: $((SECONDS - from)) s)"
}

# The engine first, the layer's many contexts last.
speed() {
    local name ranks
    echo '```'
    measure 60 "$work/bin/bench_gpu_engine"
    for ranks in $(seq 0 "$(gpus | wc -l)"); do
        echo "agon model bench --device cuda --ranks $ranks -b 1000 -n 512"
        measure 30 "$work/bin/agon" model bench "$AGON_EMBEDDED" --device cuda --ranks "$ranks" -b 1000 -n 512
    done
    for name in "$work"/bin/bench_gpu_*; do
        case $name in *_engine | *_layer) ;; *) measure 40 "$name" ;; esac
    done
    measure 60 "$work/bin/bench_gpu_layer"
    echo '```'
}

if [ "${1:-}" = pack ]; then
    [ $# = 3 ] || { echo "usage: run.sh pack BUILD FOLDER" >&2; exit 2; }
    pack "$2" "$3"
    exit
fi
failed=0 install=no seconds=480
while [ $# -gt 0 ]; do
    case $1 in
    --install) install=yes ;;
    --seconds) seconds=${2:-}; shift ;;
    *) break ;;
    esac
    shift
done
what=${1:-all}
if ! [[ $seconds =~ ^[0-9]+$ && $# -le 1 && $what =~ ^(all|checks|speed)$ ]]; then
    echo "usage: run.sh [--install] [--seconds N] [checks|speed]" >&2
    exit 2
fi
speed_end=$((seconds - 10))
checks_end=$speed_end
[ "$what" != all ] || checks_end=$((seconds * 11 / 20))
beside=$(nproc)
beside=$((beside > 12 ? 12 : beside))
begin=$SECONDS names=
work=$(mktemp -d) && chmod 755 "$work" && mkdir "$work/out" || exit 1
trap 'rm -rf "$work"' EXIT
unpack $install
cp -r "${AGON_EMBEDDED:-$here/embedded}" "$work/embedded" && chmod -R a+rX "$work/embedded"
export AGON_EMBEDDED=$work/embedded here work
# NCCL may be PyTorch's.
AGON_NCCL=${AGON_NCCL:-$(python3 -c 'import nvidia.nccl, os; print(os.path.join(list(nvidia.nccl.__path__)[0], "lib", "libnccl.so.2"))' 2>/dev/null)}
export AGON_NCCL
export -f transformers plugin synth served
echo "## run of $(date -u +%F), $(gpus | sort | uniq -c | sed 's/^ *//'), commit $(cat "$here/commit")"
[ "$what" = speed ] || checks
[ "$what" = checks ] || speed
echo "$failed failed; $((SECONDS - begin)) s in all"
[ $failed = 0 ]
