#!/usr/bin/env bash
# The whole path (client library, daemon, an HTTP upstream and back) beside what it is made of: a bare NNG stream and a bare
# libcurl loop against the same mock. Each part prints JSON lines; where there is a goal, "goal" and "met" stand beside the
# figure. Medians of --rounds; what is compared takes turns. Processor time an operation stands beside each time on the clock,
# since a shared machine changes its mind about the latter. The first line says how loaded the machine was.
#
#   tests/bench/path.sh [--rounds N] [--build DIR] [--short] [unary] [load] [streams] [open] [storm]
#
# unary: 100 requests a second; load: as many as go; streams: 50 tokens at 20 ms, 1,000 and 2,000 at once; open: 9,000 streams
# held open, memory of each, plain and with TLS, and what is left of it afterwards; storm: 10,000 requests, 30 % of them spoilt in
# every way the mock knows. Exit status: 1 when a figure that no other load excuses misses its goal (memory of a stream and after it,
# the storm's account); 0 otherwise.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
exec python3 "$here/path.py" "$@"
