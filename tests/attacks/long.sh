#!/bin/sh
# The random sweeps of the battery beyond what CI runs: long.sh BUILD [ROUNDS]
# Best in a build with sanitizers (HACKING.md). The first rounds are those of CI, the rest are new.
set -e
build=${1:?long.sh BUILD [ROUNDS]}
export AGON_ATTACK_ROUNDS="${2:-1000000}"
"$build/tests/attacks/test_attacks_mutants" A11
"$build/tests/attacks/test_attacks_intake_unboxed" D13_bits_flip
