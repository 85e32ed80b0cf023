#!/usr/bin/env bash
# Stops the server of this job and shows its log. Does nothing if no server runs.
set -euo pipefail
folder=$RUNNER_TEMP/hobbyhorse
[ -e "$folder/pid" ] || exit 0
pid=$(cat "$folder/pid")
kill -TERM "$pid" 2>/dev/null || true
# The server ends within 5 seconds, whatever it does.
for _ in $(seq 100); do
  kill -0 "$pid" 2>/dev/null || break
  sleep 0.1
done
kill -KILL "$pid" 2>/dev/null || true
rm -f "$folder/pid"
echo "::group::The log of the server"
cat "$folder/server.log"
echo "::endgroup::"
