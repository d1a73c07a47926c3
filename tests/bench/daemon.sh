#!/usr/bin/env bash
# What the daemon costs beside what it carries. Each part prints JSON lines; where there is a goal, "goal" and "met" stand
# beside the figure. Medians of --rounds; what is compared alternates, since a shared machine changes its mind. The first line
# says how loaded the machine was.
#
#   tests/bench/daemon.sh [--rounds N] [--tokens N] [--build DIR] [--model FILE] [idle] [first] [cli] [ipc]
#
# idle: from exec to ready, memory, wake-ups; first: first token of a connected client, beside the worker itself with the same
# model; cli: what `troupe ask` adds to a connected client; ipc: 64-byte chunks a second through client, link and gateway.
# Exit status: 1 when memory or wake-ups miss their goals, which no other load excuses; 0 otherwise.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
exec python3 "$here/daemon.py" "$@"
