#!/usr/bin/env bash
# Removes images of ours that a newer build has replaced:   containerfiles/prune.sh ENGINE
#
# They have our label and no name any more. One that a container still runs from stays until the next
# build; images without our label are not touched.
set -euo pipefail
"$1" image prune --force --filter label=pynchy.inputs >/dev/null 2>&1 ||
    echo "$1 could not remove the images that were replaced: $1 image prune" >&2
