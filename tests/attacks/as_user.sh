#!/bin/sh
# as_user.sh PROGRAM: run a test program as an ordinary user also where the tests run as root, with
# copies of what it needs in a place that he can read.
set -eu
[ "$(id -u)" = 0 ] || exec "$1"
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cp "$1" "$AGON_CELL" "$(dirname "$AGON_CELL")/agon-parse" "$AGON_BOX_HOSTILE" "$dir"
chmod -R a+rX "$dir"
cd /
setpriv --reuid 65534 --regid 65534 --clear-groups env -i PATH="$PATH" TMPDIR=/tmp \
    AGON_CELL="$dir/agon-cell" AGON_BOX_HOSTILE="$dir/$(basename "$AGON_BOX_HOSTILE")" "$dir/$(basename "$1")"
