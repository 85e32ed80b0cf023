#!/usr/bin/env bash
# Generate a video with Vtrix: submit, poll and download. One file to copy; it needs bash 5, curl, awk, od and sha256sum.
set -euo pipefail
export LC_ALL=C

second=1000000 # times are in microseconds, as in EPOCHREALTIME: bash computes with whole numbers
longest_wait=$((600 * second)) least_interval=$second grace=$((60 * second))
tries=5 # per submission, and per download
declare -A tolerated=([refused]=1 [missing]=3 [useless]=4 [troubled]=8) # bad responses in a row that the wait survives
speed=$(awk "BEGIN { print int(1000 * ${HOBBYHORSE_SPEED:-1}) }") # of the fake server's clock, in thousandths; 1000 for a real provider
output=$HOBBYHORSE_OUTPUT note_file=$HOBBYHORSE_OUTPUT.job
base=${HOBBYHORSE_BASE_URL%/} job= status=0 again=
passed=0 # real time in requests and pauses: bash has no clock that is safe from a change of the wall clock
scratch=$(mktemp -d)
trap 'rm -rf "$scratch" "$output.part"' EXIT

# end CLASS WHY: failed means "there will not be a video", timeout "the job goes on", error "the outcome is unknown".
end() {
  echo "job ${job:-unknown}: $2" >&2
  if [[ $1 == failed ]]; then rm -f "$note_file"; fi
  printf '{"job": %s, "class": "%s", "id_exposed": %s, "sha256": null}\n' \
    "$([[ $job ]] && echo "\"$job\"" || echo null)" "$1" "$([[ $job ]] && echo true || echo false)"
  exit 1
}

describe() { if ((status > 0)); then echo "status $status: $(head -c 300 "$scratch/body" | tr -d '\0')"; else echo "no response"; fi; }

now() { echo $((passed * speed / 1000)); }

# send SECONDS METHOD URL [OPTION...]: send a request; set status (0: no response, or not all of it; -1: not sent), again
# and the body. Redirects are not followed: their target would get the key.
send() {
  local within=$1 method=$2 url=$3 told result=0
  shift 3
  : >"$scratch/body"
  : >"$scratch/head"
  told=$(curl -q --silent --globoff --noproxy '*' --proto '=http,https' --connect-timeout 10 --max-time "$within" \
    --output "$scratch/body" --dump-header "$scratch/head" --write-out '%{http_code} %{time_total}' --request "$method" "$@" -- "$url") || result=$?
  told=${told/./} # the time has six decimals
  passed=$((passed + 10#${told#* }))
  case $result in 0) status=$((10#${told% *})) ;; 5 | 6 | 7) status=-1 ;; *) status=0 ;; esac
  again=$(sed -n 's/^retry-after:[[:space:]]*//Ip' "$scratch/head" | tr -d '\r')
  if [[ $again =~ ^0*([0-9]+)$ ]]; then
    again=${BASH_REMATCH[1]}
    if ((${#again} > 9)); then again=999999999; fi # decades
    again=$((10#$again * second))
  elif [[ $again ]]; then # a date
    again=$(date -u -d "$again" +%s 2>/dev/null) && again=$((again * second - ${EPOCHREALTIME/./})) || again=
  fi
}

# The key is passed by a file descriptor: an argument would show it in the list of processes.
send_with_key() { send 30 "$@" --config <(printf 'header = "Authorization: Bearer %s"\n' "$HOBBYHORSE_API_KEY"); }

# strings: print the path and the value of each string in a 2xx response with a whole JSON object, such as "/id abc".
strings() {
  ((status >= 200 && status < 300)) || return 0
  tr -d '\r\n\0' <"$scratch/body" | grep -oE '"([^"\\]|\\.)*"|[][{},:]|[^][{},:"[:space:]]+' | awk '
    function plain(text,   found, code) { # without escapes; a character beyond ASCII keeps its own
      text = substr(text, 2, length(text) - 2); found = ""
      while (match(text, /\\(u00[0-7][0-9A-Fa-f]|.)/)) {
        found = found substr(text, 1, RSTART - 1)
        code = substr(text, RSTART + 1, RLENGTH - 1)
        if (RLENGTH > 2) {
          code = tolower(code)
          code = sprintf("%c", (index("0123456789abcdef", substr(code, 4, 1)) - 1) * 16 + index("0123456789abcdef", substr(code, 5)) - 1)
        }
        found = found code
        text = substr(text, RSTART + RLENGTH)
      }
      return found text
    }
    function path(   level, found) { for (level = 1; level <= depth; level++) found = found "/" at[level]; return found }
    depth == 0 && NR > 1 { wrong = 1 }
    $0 == "{" || $0 == "[" { depth++; list[depth] = $0 == "["; at[depth] = list[depth] ? 0 : ""; named = 0; next }
    $0 == "}" || $0 == "]" { depth--; next }
    $0 == "," { if (list[depth]) at[depth]++; named = 0; next }
    $0 == ":" { named = 1; next }
    /^"/ && depth && !list[depth] && !named { at[depth] = plain($0); next }
    /^"/ { lines = lines path() " " plain($0) "\n" }
    END { if (!depth && !wrong) printf "%s", lines }' || true
}

# encode TEXT: print it as one segment of a path.
encode() {
  local at one
  for ((at = 0; at < ${#1}; at++)); do
    one=${1:at:1}
    case $one in [A-Za-z0-9._~-]) printf %s "$one" ;; *) printf '%%%02X' "'$one" ;; esac
  done
}

# text NAME: print the string of that name in the object of a response; nothing if there is none.
text() { strings | sed -n "s#^/$1 ##p" | head -n 1; }

# Print the URL of the first output that is a video; without types, that of the first one.
video_url() {
  local found place
  found=$(strings | grep -E '^/output/[0-9]+/content/[0-9]+/(type|url) ') || return 0
  place=$(sed -n 's#/type video$##p' <<<"$found" | head -n 1)
  sed -n "s#^${place:-/output/[0-9]*/content/[0-9]*}/url ##p" <<<"$found" | head -n 1
}

# pause INTERVAL DEADLINE: sleep for the Retry-After, else for the interval; fail if the deadline comes first.
pause() {
  local left wait
  left=$(($2 - $(now)))
  if ((left < least_interval || ${again:-0} > left)); then return 1; fi
  if [[ $again ]]; then
    wait=$((again + again / 50))
    if ((wait < least_interval)); then wait=$least_interval; fi
  else
    wait=$(($1 + $1 * (RANDOM % 256) / 1024))
  fi
  if ((wait >= left - least_interval)); then wait=$left; fi # the last poll falls on the deadline
  wait=$((wait * 1000 / speed))
  sleep "$((wait / second)).$(printf %06d $((wait % second)))"
  passed=$((passed + wait))
}

# Save the note of this submission: its job is empty until it is known.
save_note() {
  printf '{"base_url": "%s", "job": "%s", "request": "%s"}\n' "$base" "$job" "$request" >"$note_file.part"
  mv "$note_file.part" "$note_file"
}

# Submit. Submit again only after a refusal: Vtrix has no idempotency keys.
submit() {
  local number busy
  for ((number = 0; number < tries; number++)); do
    if ((number)) && ! pause $((2 ** number * second)) "$deadline"; then break; fi
    send_with_key POST "$base/model/v1/generation" --header 'Content-Type: application/json' --data-binary "@$HOBBYHORSE_REQUEST"
    job=$(text id)
    if [[ $job && $job != *[!!-~]* && $job != *[\"\\]* ]]; then return; fi # printable, and no escapes in JSON
    job= busy=
    if ((status == -1 || status == 429)) || { ((status == 503)) && [[ $(head -c 1 "$scratch/body") == '{' ]]; }; then busy=1; fi
    if [[ ! $busy ]]; then break; fi
  done
  if [[ $busy ]] || ((status >= 300 && status < 500 && status != 408 && status != 409)); then
    end failed "the submission returned no job: $(describe)"
  fi
  end error "the submission may have made a job that is not known: $(describe)"
}

# classify SEEN: classify a response without a stage; SEEN is not empty if an earlier response had one.
classify() {
  case $status in
    -1 | 0 | 408 | 425 | 429 | 5??) echo troubled ;;
    2??) echo useless ;;
    404) if [[ $1 ]]; then echo refused; else echo missing; fi ;;
    *) echo refused ;;
  esac
}

# Poll until the job has succeeded; set url, empty if there is none.
wait_for_it() {
  local interval=$((3 * second)) seen='' stage kind
  local -A failures=()
  status=0 again=
  while pause "$interval" "$deadline"; do
    send_with_key GET "$base/model/v1/generation/task/$(encode "$job")"
    stage=$(text status)
    case $stage in
      completed) url=$(video_url) && return ;;
      failed) end failed "$(describe)" ;;
      ?*) seen=1 failures=() ;; # in progress, or an undocumented stage
      *)
        kind=$(classify "$seen")
        failures[$kind]=$((${failures[$kind]:-0} + 1))
        if ((failures[$kind] > tolerated[$kind])); then end error "its status cannot be read: $(describe)"; fi
        ;;
    esac
    interval=$((interval < 8 * second ? interval * 5 / 4 : 10 * second))
  done
  end timeout "it is not done after $((longest_wait / second)) s; last response: $(describe)"
}

host_of() { sed -nE 's#^https?://([^/?\#@]*@)?(\[[^]]*\]|[^]/:?\#@[]+)(:[0-9]+)?([/?\#].*)?$#\2#p' <<<"$1"; }

# is_public URL: whether a URL is safe to fetch: http(s), on a public address or on the API's own host.
is_public() {
  local host address found
  host=$(host_of "$1")
  if [[ $host && $host == "$(host_of "$base")" ]]; then return 0; fi
  host=${host#[} host=${host%]}
  found=$(getent ahosts "${host:-.}" | awk '{ print $1 }' | sort -u) || return 1
  for address in $found; do
    case $address in
      *:*) [[ $address == [23]???:* ]] || return 1 ;;
      0.* | 10.* | 127.* | 169.254.* | 192.168.* | 192.0.0.* | 198.1[89].* | 22[4-9].* | 2[3-5]?.*) return 1 ;;
      172.1[6-9].* | 172.2?.* | 172.3[01].* | 100.6[4-9].* | 100.[7-9]?.* | 100.1[01]?.* | 100.12[0-7].*) return 1 ;;
    esac
  done
  [[ $found ]]
}

# is_mp4 FILE: whether a file is a complete MP4: its boxes fill it exactly.
is_mp4() {
  local at=0 size total kinds='' b
  total=$(wc -c <"$1")
  while ((at + 8 <= total)); do
    read -ra b < <(od -An -v -w16 -tu1 -j "$at" -N 16 "$1")
    size=$((b[0] << 24 | b[1] << 16 | b[2] << 8 | b[3]))
    kinds+=" $(tail -c +$((at + 5)) "$1" | head -c 4 | tr -cd 'a-z0-9')"
    if ((size == 1 && ${#b[@]} == 16)); then size=$((b[10] << 40 | b[11] << 32 | b[12] << 24 | b[13] << 16 | b[14] << 8 | b[15])); fi
    if ((size == 0)); then size=$((total - at)); fi
    at=$((at + (size < 8 ? 8 : size)))
  done
  ((at == total)) && [[ $kinds == ' ftyp'* && $kinds == *' moov'* && $kinds == *' mdat'* ]]
}

# Download the video without the key; fail if the link has expired.
fetch() {
  local number limit
  is_public "$url" || end error "the URL of its video is not public"
  limit=$(($(now) + longest_wait)) again=
  for ((number = 0; number < tries; number++)); do
    if ((number)) && ! pause $((2 ** number * second)) "$limit"; then break; fi
    send 300 GET "$url"
    if ((status == 200)) && is_mp4 "$scratch/body"; then return 0; fi
    if ((status == 403 || status == 410)); then return 1; fi
  done
  end error "its video cannot be downloaded: status $status, $(wc -c <"$scratch/body") bytes"
}

request=$(sha256sum <"$HOBBYHORSE_REQUEST" | cut -d ' ' -f 1)
deadline=$(($(now) + longest_wait))
if [[ -e $note_file ]]; then
  note() { sed -nE "s/.*\"$1\": \"([^\"]*)\".*/\1/p" "$note_file"; }
  base=$(note base_url) job=$(note job)
  if [[ ${1:-} != --resume && $(note request) != "$request" ]]; then end error "$note_file belongs to another request: --resume collects its job"; fi
  request=$(note request)
  if [[ ! $job ]]; then end error "the outcome of the submission is unknown: look for its job in the provider's console"; fi
else
  if [[ ${1:-} == --resume ]]; then end failed "nothing to resume: $note_file does not exist"; fi
  save_note
  submit
  save_note
fi
repeated=
while :; do # a missing URL gets one more poll, and so does an expired one
  wait_for_it
  if [[ $url ]] && fetch; then
    cp "$scratch/body" "$output.part"
    mv "$output.part" "$output"
    rm "$note_file"
    printf '{"job": "%s", "class": "success", "id_exposed": true, "sha256": "%s"}\n' "$job" "$(sha256sum <"$output" | cut -d ' ' -f 1)"
    exit 0
  fi
  kind=${url:+expired}
  if [[ $repeated == *${kind:-missing}* ]]; then break; fi
  repeated+=" ${kind:-missing}"
  if ((deadline < $(now) + grace)); then deadline=$(($(now) + grace)); fi
done
if [[ $url ]]; then end error "it has succeeded, but its video is missing"; fi
end failed "it has succeeded, but without a video"
