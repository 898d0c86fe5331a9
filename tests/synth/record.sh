#!/bin/sh
# Make tests/synth/replays/ anew, after a text of synth/PROTOCOL.md or of a gate changed:
# tests/synth/record.sh build/agon
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
corpus=$(mktemp -d)
rm -f "$root/tests/synth/replays/cars.jsonl"
"$1" synth general --corpus "$corpus" --category "cars: road tests of cars" --source "$root/tests/synth/docs" \
    --model "exec+lines:python3 $root/tests/synth/author_program.py" --levels 5 --lines 1 --rollouts 8 \
    --record "$root/tests/synth/replays/cars.jsonl"
rm -rf "$corpus"
