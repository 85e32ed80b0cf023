#!/bin/bash
# usage: set the HOBBYHORSE_* variables, then ./vtrix_curl.sh   (needs curl and python3)
api="$HOBBYHORSE_BASE_URL/model/v1/generation"
auth="Authorization: Bearer $HOBBYHORSE_API_KEY"
get() { python3 -c "import json, sys; print(json.load(sys.stdin)$1)"; }

id=$(curl -s -X POST "$api" -H "$auth" -H "Content-Type: application/json" -d @"$HOBBYHORSE_REQUEST" | get "['id']")
echo "Task: $id"

while true; do
  sleep 1
  task=$(curl -s "$api/task/$id" -H "$auth")
  status=$(echo "$task" | get "['status']")
  echo "Status: $status"
  [ "$status" = "completed" ] && break
  [ "$status" = "failed" ] && exit 1
done

curl -s -o "$HOBBYHORSE_OUTPUT" "$(echo "$task" | get "['output'][0]['content'][0]['url']")"
