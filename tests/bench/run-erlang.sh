#!/usr/bin/env bash
# Troupe beside Erlang/OTP: the same four workloads, in turn, RUNS times each; prints the medians and their ratio.
# usage: run-erlang.sh [BUILD_FOLDER]. Exit status: 0 Troupe is at least as fast in the ring, 1 it is not, 77 no Erlang.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
build=${1:-$here/../../build}
bench=$build/bin/troupe-bench
runs=${RUNS:-5}

if ! command -v erl >/dev/null || ! command -v erlc >/dev/null; then
  echo "not run: Erlang is not installed (apt-get install erlang-base)" >&2
  exit 77
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
erlc -o "$work" "$here"/erlang/*.erl

median() { sort -n | awk '{ a[NR] = $1 } END { print a[int((NR + 1) / 2)] }'; }
per_second() { sed -n 's/.*"per_second": \([0-9]*\).*/\1/p'; }

# compare NAME ERLANG_MODULE "erlang numbers" troupe options...
compare() {
  local name=$1 module=$2 numbers=$3 i
  shift 3
  : >"$work/troupe"
  : >"$work/erlang"
  for ((i = 0; i < runs; i++)); do
    "$bench" "$name" "$@" | per_second >>"$work/troupe"
    # shellcheck disable=SC2086 # the numbers are separate arguments
    erl -noshell -pa "$work" -run bench main "$module" $numbers >>"$work/erlang"
  done
  local ours theirs
  ours=$(median <"$work/troupe")
  theirs=$(median <"$work/erlang")
  ratio=$(awk -v a="$ours" -v b="$theirs" 'BEGIN { printf "%.2f", a / b }')
  printf '{"workload": "%s", "troupe_per_second": %s, "erlang_per_second": %s, "ratio": %s, "runs": %s}\n' \
    "$name" "$ours" "$theirs" "$ratio" "$runs"
}

compare pingpong pingpong "1000000" --messages 1000000
compare fanin fanin "10 100000" --senders 10 --messages 100000
compare spawn spawning "300000" --actors 300000
# One shard, though Erlang has a scheduler for each processor.
compare ring ring "100 50 100000" --actors 100 --tokens 50 --hops 100000
awk -v r="$ratio" 'BEGIN { exit r >= 1 ? 0 : 1 }'
