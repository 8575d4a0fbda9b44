# shellcheck shell=bash
# Sourced by the other scripts: the repository root as working directory, and steps that print what they took.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# Compiler results are shared between checkouts in different folders, of one machine or one CI cache.
export CCACHE_BASEDIR=$PWD CCACHE_NOHASHDIR=1

if [ -t 1 ]; then BOLD=$'\e[1m' DIM=$'\e[2m' PLAIN=$'\e[0m'; else BOLD='' DIM='' PLAIN=''; fi

say() { printf '%s==> %s%s\n' "$BOLD" "$*" "$PLAIN"; }
fail() { printf '%serror:%s %s\n' "$BOLD" "$PLAIN" "$*" >&2; exit 1; }

# step NAME COMMAND...: runs it in full view and prints its wall time. Returns the command's status.
step() {
  local name=$1 start=$SECONDS status=0
  shift
  say "$name"
  "$@" || status=$?
  printf '%s    %s: %d s%s%s\n' "$DIM" "$name" $((SECONDS - start)) "$([ $status = 0 ] || echo ", exit $status")" "$PLAIN"
  return $status
}

# quiet_step NAME COMMAND...: the same, but shows the command's output only when it fails.
quiet_step() {
  local name=$1 log status=0
  shift
  log=$(mktemp)
  step "$name" "$@" >"$log" 2>&1 </dev/null || status=$?
  if [ $status = 0 ]; then sed -n '1p;$p' "$log"; else cat "$log" >&2; fi
  rm -f "$log"
  return $status
}
