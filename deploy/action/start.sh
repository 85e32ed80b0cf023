#!/usr/bin/env bash
# Starts the server, waits until it is healthy, and exports its URL and the variables of a provider to later steps.
set -euo pipefail
here=$(dirname "${BASH_SOURCE[0]}")
bash "$here/install.sh"
folder=$RUNNER_TEMP/hobbyhorse
hobbyhorse=$folder/venv/bin/hobbyhorse

# The next line of GITHUB_ENV would be another variable.
if [ "${INPUT_KEY:-}" != "$(printf '%s' "${INPUT_KEY:-}" | tr -d '\r\n')" ]; then
  echo "::error::hobbyhorse: the input 'key' has a line break"
  exit 1
fi
if [ -e "$folder/pid" ] && kill -0 "$(cat "$folder/pid")" 2>/dev/null; then
  echo "::error::the server of an earlier step is still running; stop it with \`stop: true\`"
  exit 1
fi
# The options are words; without -f, the shell would replace a * by file names.
set -f
# shellcheck disable=SC2086
nohup "$hobbyhorse" serve --port "${INPUT_PORT:-0}" ${INPUT_OPTIONS:-} </dev/null >"$folder/ready.json" 2>"$folder/server.log" &
pid=$!
echo "$pid" >"$folder/pid"

# The server prints its line within a second; a loaded machine takes longer.
for _ in $(seq 300); do
  if [ -s "$folder/ready.json" ] || ! kill -0 "$pid" 2>/dev/null; then break; fi
  sleep 0.1
done
if ! url=$("$folder/venv/bin/python" -c 'import json, sys; print(json.loads(sys.stdin.readline())["url"])' \
    <"$folder/ready.json" 2>/dev/null) || ! "$hobbyhorse" health "$url"; then
  echo "::error::the server did not start: $(tail -n 1 "$folder/server.log")"
  exit 1
fi
settings=
if [ -n "${INPUT_PROVIDER:-}" ]; then
  settings=$("$hobbyhorse" env "$INPUT_PROVIDER" --url "$url" ${INPUT_KEY:+--key "$INPUT_KEY"})
fi
echo "url=$url" >>"$GITHUB_OUTPUT"
echo "HOBBYHORSE_URL=$url" >>"$GITHUB_ENV"
if [ -n "$settings" ]; then
  # Evaluated here, because the values are quoted; a later step gets them as they are.
  names=$(printf '%s\n' "$settings" | sed -n 's/^export \([A-Z0-9_]*\)=.*/\1/p')
  eval "$settings"
  for name in $names; do
    printf '%s=%s\n' "$name" "${!name}" >>"$GITHUB_ENV"
  done
fi
