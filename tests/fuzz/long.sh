#!/bin/sh
# Build all fuzzers and run them:  tests/fuzz/long.sh [MINUTES] [TARGET ...]
#   MINUTES for each target, 5 unless said; TARGET: all unless named.
# What a run finds interesting stays in build-fuzz/corpus/TARGET for the next one; findings go to
# build-fuzz/findings. One line a target; the exit status is 1 when there were findings.
#         tests/fuzz/long.sh --merge TARGET ...
#   packs those inputs of build-fuzz/corpus that reach code which the named ones do not into
#   tests/fuzz/corpus/TARGET/found.pack, so that every build reruns them.
set -eu
cd "$(dirname "$0")/../.."
saved=tests/fuzz/corpus

case ${1:-} in
-h | --help)
    sed -n '2,8s/^# *//p' "$0"
    exit 0
    ;;
esac

if [ ! -f build-fuzz/build.ninja ]; then
    CC=clang meson setup build-fuzz -Dfuzz=true -Dcuda=disabled -Db_sanitize=address,undefined \
        -Dc_args=-fsanitize=fuzzer-no-link >/dev/null
fi
all=$(cd tests/fuzz && for file in fuzz_*.c; do name=${file#fuzz_}; echo "${name%.c}"; done)
export ASAN_OPTIONS=detect_leaks=1:allocator_may_return_null=1
export UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1

# The words that a target's inputs are made of.
dict() {
    case $1 in
    json | codec | schema) echo json ;;
    tools | verifier | script | lexicon) echo lua ;;
    sql) echo sql ;;
    chat | completion | encode) echo chat ;;
    document | robots | http) echo web ;;
    env | checkpoint | config | tokenizer | safetensors) echo model ;;
    *) ;;
    esac
}

# The saved inputs of a target, one a file, in build-fuzz/seeds.
seeds() {
    rm -rf "build-fuzz/seeds/$1"
    mkdir -p "build-fuzz/seeds/$1" "build-fuzz/corpus/$1" build-fuzz/findings
    for input in "$saved/$1"/*; do
        case $input in
        */found.pack) "build-fuzz/tests/fuzz/replay_$1" --unpack "$input" "build-fuzz/seeds/$1" ;;
        *) cp "$input" "build-fuzz/seeds/$1" ;;
        esac
    done
}

# run TARGET SECONDS
run() {
    seeds "$1"
    words=$(dict "$1")
    log=build-fuzz/findings/$1.log
    nice "build-fuzz/tests/fuzz/fuzz_$1" -max_total_time="$2" -timeout=20 -rss_limit_mb=3000 \
        -max_len=20000 -len_control=20 -print_final_stats=1 \
        ${words:+-dict=tests/fuzz/dict/$words.dict} -artifact_prefix="build-fuzz/findings/$1-" \
        "build-fuzz/corpus/$1" "build-fuzz/seeds/$1" >"$log" 2>&1 && found=none ||
        found=$(grep -ao 'build-fuzz/findings/[^ ]*' "$log" | tail -1)
    awk -v name="$1" -v found="${found:-$log}" '
        / cov: / { for (i = 1; i < NF; i++) { if ($i == "cov:") cov = $(i+1)
                   if ($i == "ft:") ft = $(i+1); if ($i == "corp:") corp = $(i+1) } }
        /number_of_executed_units/ { n = $2 }
        { if ($1 ~ /^#[0-9]+$/ && !n) last = substr($1, 2) }
        END { printf "%-12s %9d runs  edges %6d  features %7d  corpus %s  findings: %s\n",
              name, n ? n : last, cov, ft, corp, found }' "$log"
    [ "$found" = none ]
}

# Edges alone, not how often each was taken: some hundred small inputs.
merge() {
    seeds "$1"
    rm -rf build-fuzz/merged
    mkdir -p build-fuzz/merged
    for input in "$saved/$1"/*; do
        [ "${input##*/}" = found.pack ] || cp "$input" build-fuzz/merged
    done
    nice "build-fuzz/tests/fuzz/fuzz_$1" -merge=1 -use_counters=0 -use_cmp=0 -max_len=3000 \
        -timeout=5 build-fuzz/merged "build-fuzz/seeds/$1" "build-fuzz/corpus/$1" >/dev/null 2>&1
    for input in "$saved/$1"/*; do rm -f "build-fuzz/merged/${input##*/}"; done
    "build-fuzz/tests/fuzz/replay_$1" --pack build-fuzz/merged "$saved/$1/found.pack"
    rm -rf build-fuzz/merged
}

merging=no
minutes=5
case ${1:-} in
--merge)
    merging=yes
    shift
    ;;
[0-9]*)
    minutes=$1
    shift
    ;;
esac
seconds=$(awk -v m="$minutes" 'BEGIN { printf "%d", m * 60 }')
[ $# -gt 0 ] || set -- $all
for target in "$@"; do
    wanted="${wanted:-} tests/fuzz/fuzz_$target tests/fuzz/replay_$target"
done
ninja -C build-fuzz $wanted >build-fuzz/build.log 2>&1 || { tail -30 build-fuzz/build.log; exit 1; }
if [ $merging = yes ]; then
    for target in "$@"; do merge "$target"; done
    exit 0
fi
status=0
for target in "$@"; do run "$target" "$seconds" || status=1; done
exit $status
