#!/usr/bin/env bash
# Tests a client with `hobbyhorse conformance client`, and shows the summary on the page of the job.
set -euo pipefail
here=$(dirname "${BASH_SOURCE[0]}")
bash "$here/install.sh"
hobbyhorse=$RUNNER_TEMP/hobbyhorse/venv/bin/hobbyhorse
report=${INPUT_REPORT:-hobbyhorse-report}

arguments=(--provider "$INPUT_PROVIDER" --profile "${INPUT_PROFILE:-ci}" --report "$report")
if [ -n "${INPUT_BASELINE:-}" ]; then arguments+=(--baseline "$INPUT_BASELINE"); fi
if [ -n "${INPUT_PYTHON:-}" ]; then
  arguments+=(--python "$INPUT_PYTHON")
else
  arguments+=(-- bash -c "$INPUT_COMMAND")
fi
status=0
"$hobbyhorse" conformance client "${arguments[@]}" || status=$?
if [ -e "$report/summary.md" ]; then cat "$report/summary.md" >>"$GITHUB_STEP_SUMMARY"; fi
exit "$status"
