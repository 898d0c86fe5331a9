#!/bin/sh
# Make tests/synth/replays/ anew, after a text of synth/PROTOCOL.md or of a gate changed:
# tests/synth/record.sh build/agon
set -eu
agon=$(realpath "$1")
cd "$(dirname "$0")/../.." # so that the recording names no path of this machine
corpus=$(mktemp -d)
rm -f tests/synth/replays/cars.jsonl
"$agon" synth general --corpus "$corpus" --category "cars: road tests of cars" --source tests/synth/docs \
    --model "exec+lines:python3 tests/synth/author_program.py" --levels 5 --lines 1 --rollouts 8 \
    --record tests/synth/replays/cars.jsonl
rm -rf "$corpus"
