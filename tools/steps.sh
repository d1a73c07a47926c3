# shellcheck shell=bash disable=SC2154
# Sourced by tools/setup, tools/quickstart and tools/check: messages, and long steps with a clock.
# The caller sets `me` (its name in messages) and `log_dir` (where the output of steps goes).

say() {
  printf '%s\n' "$*" >&2
}

die() {
  say "$me: $*"
  exit 1
}

# The folder for everything that is downloaded or built once a machine; trouped and CMake look in the same place.
cache_dir() {
  printf '%s\n' "${TROUPE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/troupe}"
}

# A step runs in a process group of its own, so that a signal to the script ends all of it.
step_pid=''
clock_pid=''
step_log=''
stop_step() {
  [ -z "$clock_pid" ] || kill "$clock_pid" 2>/dev/null || true
  [ -z "$step_pid" ] || kill -TERM -- "-$step_pid" 2>/dev/null || true
  step_pid='' clock_pid=''
}
trap 'stop_step; exit 130' INT
trap 'stop_step; exit 143' TERM HUP
trap stop_step EXIT

# Prints the time that went by: each second in place on a terminal, every ten seconds as a line elsewhere.
clock() { # clock LABEL EXPECTED_SECONDS SCRIPT_PID
  local start=$SECONDS last=0 now
  while sleep 1 && kill -0 "$3" 2>/dev/null; do
    now=$((SECONDS - start))
    if [ -t 2 ]; then
      printf '\r\033[K%s: %s s (about %s s)' "$1" "$now" "$2" >&2
    elif [ $((now - last)) -ge 10 ]; then
      last=$now
      say "  $1: $now s of about $2 s"
    fi
  done
}

# step LABEL EXPECTED_SECONDS COMMAND...: runs the command with its output in a file, and returns its status.
step() {
  local label=$1 expected=$2 start=$SECONDS rc=0
  shift 2
  mkdir -p "$log_dir"
  step_log="$log_dir/$(printf '%s' "$label" | tr -c 'A-Za-z0-9.\n' '-').log"
  say "$label (about $expected s) ..."
  set -m
  "$@" >"$step_log" 2>&1 </dev/null &
  step_pid=$!
  set +m
  clock "$label" "$expected" "$$" 9>&- &
  clock_pid=$!
  wait "$step_pid" || rc=$?
  step_pid=''
  kill "$clock_pid" 2>/dev/null || true
  wait "$clock_pid" 2>/dev/null || true
  clock_pid=''
  [ ! -t 2 ] || printf '\r\033[K' >&2
  if [ "$rc" -eq 0 ]; then
    say "$label: done in $((SECONDS - start)) s"
  else
    say "$label: FAILED after $((SECONDS - start)) s; the end of $step_log:"
    tail -n 15 "$step_log" | awk '{ print "  | " $0 }' >&2
  fi
  return "$rc"
}
