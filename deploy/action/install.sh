#!/usr/bin/env bash
# Installs hobbyhorse into a virtual environment of the job, once, and puts its command on the PATH of later steps.
set -euo pipefail
source=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
venv=$RUNNER_TEMP/hobbyhorse/venv
if [ ! -x "$venv/bin/hobbyhorse" ]; then
  python3 -m venv "$venv"
  "$venv/bin/pip" install --quiet --disable-pip-version-check "$source"
fi
echo "$venv/bin" >> "$GITHUB_PATH"
