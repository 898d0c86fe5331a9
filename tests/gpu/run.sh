#!/bin/bash
# Everything that needs a GPU, in under 8 minutes.
#   tests/gpu/run.sh pack BUILD FOLDER   on the machine that built it: programs, their libraries, the embedded model
#   FOLDER/run.sh                        on the machine with the GPU: checks, then measures; ends with one line
# Twelve random models are held against transformers where python3 has it (oracle.py); else that is told.
set -u
here=$(cd "$(dirname "$0")" && pwd)

pack() {
    local build=$1 to=$2 program library
    mkdir -p "$to/lib" "$to/embedded" || exit 1
    cp "$here/run.sh" "$here/oracle.py" "$to/"
    cp "$here"/../../model/embedded/{config.json,tokenizer.json,EXAMPLES.md,model*} "$to/embedded/"
    for program in "$build"/tests/gpu/test_gpu_* "$build"/tests/gpu/bench_gpu_*; do
        [ -f "$program" ] || continue
        strip -o "$to/$(basename "$program")" "$program" || exit 1
        ldd "$program" | awk '$3 ~ /jansson|pcre2|xxhash/ {print $3}' | while read -r library; do
            cp -Lu "$library" "$to/lib/"
        done
    done
    echo "$to: $(du -sh "$to" | cut -f1)"
}

# Run a program for at most $1 seconds; its TAP is counted, what is not ok is shown.
passed=0 failed=0 skipped=0
check() {
    local seconds=$1 name=$2 out
    shift
    out=$(timeout -k 5 "$seconds" "$@" 2>&1)
    local code=$?
    passed=$((passed + $(grep -c '^ok' <<<"$out") - $(grep -c '^ok.*# SKIP' <<<"$out")))
    skipped=$((skipped + $(grep -c '^ok.*# SKIP' <<<"$out")))
    failed=$((failed + $(grep -c '^not ok' <<<"$out")))
    grep -E '^not ok' -B 6 <<<"$out"
    if [ $code -gt 1 ]; then
        failed=$((failed + 1))
        echo "$name ended with $code after: $(tail -n 1 <<<"$out")"
    fi
}

if [ "${1:-}" = pack ]; then
    [ $# = 3 ] || { echo "usage: run.sh pack BUILD FOLDER" >&2; exit 2; }
    pack "$2" "$3"
    exit
fi

cd "$here" || exit 1
export LD_LIBRARY_PATH="$here/lib:${LD_LIBRARY_PATH:-}" AGON_EMBEDDED="$here/embedded"
begin=$(date +%s)
if python3 -c 'import transformers.models.deepseek_v32' 2>/dev/null; then
    oracles=$(mktemp -d)
    if timeout 120 python3 oracle.py "$oracles" >/dev/null 2>&1; then
        export AGON_ORACLES=$oracles
    else
        failed=$((failed + 1))
        echo "oracle.py failed"
    fi
else
    echo "python3 has no transformers with DeepSeek-V3.2: the twelve random models are left out"
fi
for program in ./test_gpu_*; do
    check 90 "$program"
done
for program in ./bench_gpu_*; do
    timeout -k 5 60 "$program" || { failed=$((failed + 1)) && echo "$program ended with an error"; }
done
rm -rf "${oracles:-/nonexistent}"
echo "$passed passed, $failed failed, $skipped skipped; $(($(date +%s) - begin)) s"
[ $failed = 0 ]
