// Generate a video with HiAPI: submit, poll and download. One file to copy; it needs Go 1.21 and nothing else.
package main

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	mathrand "math/rand"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	longestWait, keyLife, grace   = 600.0, 86000.0, 60.0 // seconds; HiAPI forgets a key after 24 hours
	leastInterval, firstInterval  = 1.0, 3.0             // seconds between polls; the interval grows by a quarter after each
	longestInterval, tries        = 10.0, 5              // tries per submission, and per download
)

// Bad responses in a row that the wait survives.
var tolerated = map[string]int{"refused": 1, "missing": 3, "useless": 4, "troubled": 8}
var began = time.Now()
var speed = 1.0 // of the fake server's clock; 1 for a real provider
var private = prefixes("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12",
	"192.0.0.0/24", "192.168.0.0/16", "198.18.0.0/15", "224.0.0.0/3")
var open = netip.MustParsePrefix("2000::/3") // only this part of IPv6 is public

func prefixes(texts ...string) (found []netip.Prefix) {
	for _, text := range texts {
		found = append(found, netip.MustParsePrefix(text))
	}
	return found
}

// Failed means that no video was returned. The outcome is failed (final), timeout (the job goes on) or error (unknown).
type Failed struct{ outcome, job, why string }

func (f Failed) Error() string {
	job := f.job
	if job == "" {
		job = "unknown"
	}
	return fmt.Sprintf("job %s: %s", job, f.why)
}

type note struct {
	BaseURL string          `json:"base_url"`
	Request json.RawMessage `json:"request"`
	Key     string          `json:"key"`
	Job     string          `json:"job"`
	Doubt   bool            `json:"doubt"`
	Ordered float64         `json:"ordered"`
}

type response struct {
	status int // 0: no response, or not all of it; -1: the request was not sent
	body   []byte
	again  *float64
}

func (r response) String() string {
	if r.status <= 0 {
		return "no response"
	}
	return fmt.Sprintf("status %d: %.300s", r.status, r.body)
}

// now reads the monotonic clock: the wall clock may be set.
func now() float64 { return time.Since(began).Seconds() * speed }

// send sends a request, whose whole response must arrive within so many seconds. Never redirect: the key would go along.
func send(method, address string, body []byte, headers map[string]string, within float64) response {
	client := http.Client{
		Timeout:       time.Duration(within * float64(time.Second)),
		Transport:     &http.Transport{Proxy: nil, DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	request, err := http.NewRequest(method, address, bytes.NewReader(body))
	if err != nil {
		return response{status: -1}
	}
	for name, value := range headers {
		request.Header.Set(name, value)
	}
	answer, err := client.Do(request)
	if err != nil {
		var unknown *net.DNSError
		if errors.Is(err, syscall.ECONNREFUSED) || errors.As(err, &unknown) {
			return response{status: -1}
		}
		return response{}
	}
	defer answer.Body.Close()
	content, err := io.ReadAll(answer.Body)
	if err != nil {
		return response{}
	}
	return response{answer.StatusCode, content, seconds(answer.Header.Get("Retry-After"))}
}

// seconds returns the seconds until the moment of a Retry-After, which is a number or a date; nil if there is none.
func seconds(value string) *float64 {
	value = strings.TrimSpace(value)
	if regexp.MustCompile(`^\d+$`).MatchString(value) {
		if found, err := strconv.ParseFloat(value, 64); err == nil {
			return &found
		}
	}
	if date, err := http.ParseTime(value); err == nil {
		found := time.Until(date).Seconds()
		return &found
	}
	return nil
}

// data returns the object under `data` in a 2xx response; an empty one if there is none.
func data(r response) map[string]any {
	var value map[string]any
	if r.status < 200 || r.status >= 300 || json.Unmarshal(bytes.TrimPrefix(r.body, []byte("\xef\xbb\xbf")), &value) != nil {
		return map[string]any{}
	}
	found, _ := value["data"].(map[string]any)
	return found
}

func text(value any) string {
	found, _ := value.(string)
	return found
}

// pause sleeps for the Retry-After, else for the interval; it returns false if the deadline comes first.
func pause(r response, interval, deadline float64) bool {
	left := deadline - now()
	if left < leastInterval || (r.again != nil && *r.again > left) {
		return false
	}
	wait := interval * (1 + mathrand.Float64()/4)
	if r.again != nil {
		wait = math.Max(*r.again*1.02, leastInterval)
	}
	if wait >= left-leastInterval {
		wait = left // the last poll falls on the deadline
	}
	time.Sleep(time.Duration(wait / speed * float64(time.Second)))
	return true
}

func among(status int, these ...int) bool {
	for _, one := range these {
		if one == status {
			return true
		}
	}
	return false
}

// submit returns the job's id. After a lost response, it submits again with the same key, which HiAPI replays.
func submit(n note, apiKey string, deadline float64) string {
	var r response
	doubt := n.Doubt
	headers := map[string]string{"Authorization": "Bearer " + apiKey, "Content-Type": "application/json", "Idempotency-Key": n.Key}
	for number := 0; number < tries; number++ {
		if number > 0 && !pause(r, math.Pow(2, float64(number)), deadline) {
			break
		}
		r = send("POST", n.BaseURL+"/v1/tasks", n.Request, headers, 30)
		if job := text(data(r)["taskId"]); job != "" {
			return job
		}
		refused := r.status >= 300 && r.status < 500
		underWay := r.status == 409 && bytes.Contains(r.body, []byte("IDEMPOTENCY_KEY_PROCESSING"))
		doubt = doubt || !(among(r.status, -1, 429, 503) || (refused && !among(r.status, 408, 409)))
		if (refused && !underWay && !among(r.status, 408, 425, 429)) || bytes.Contains(r.body, []byte("TASK_FAILED")) {
			break
		}
	}
	outcome := "failed"
	if doubt {
		outcome = "error"
	}
	panic(Failed{outcome, "", fmt.Sprintf("the submission with the key %s was not accepted: %s", n.Key, r)})
}

// wait polls until the job has succeeded; it returns the video's URL, empty if there is none.
func wait(n note, apiKey string, deadline float64) string {
	var r response
	interval, seen, failures := firstInterval, false, map[string]int{}
	for pause(r, interval, deadline) {
		r = send("GET", n.BaseURL+"/v1/tasks/"+url.PathEscape(n.Job), nil, map[string]string{"Authorization": "Bearer " + apiKey}, 30)
		found := data(r)
		switch stage := text(found["status"]); {
		case stage == "success":
			return videoURL(found["output"])
		case stage == "fail":
			panic(Failed{"failed", n.Job, r.String()})
		case stage != "": // in progress, or an undocumented stage
			seen, failures = true, map[string]int{}
		default:
			kind := classify(r.status, seen)
			failures[kind]++
			if failures[kind] > tolerated[kind] {
				panic(Failed{"error", n.Job, "its status cannot be read: " + r.String()})
			}
		}
		interval = math.Min(interval*1.25, longestInterval)
	}
	panic(Failed{"timeout", n.Job, fmt.Sprintf("it is not done after %g s; last response: %s", longestWait, r)})
}

// videoURL returns the URL of the first output that is a video; without types, that of the first one.
func videoURL(output any) string {
	list, _ := output.([]any)
	for _, one := range list {
		if fields, _ := one.(map[string]any); text(fields["type"]) == "video" {
			return text(fields["url"])
		}
	}
	if len(list) == 0 {
		return ""
	}
	fields, _ := list[0].(map[string]any)
	return text(fields["url"])
}

// classify classifies a response without a stage; seen: an earlier response had one.
func classify(status int, seen bool) string {
	switch {
	case status <= 0 || status >= 500 || among(status, 408, 425, 429):
		return "troubled"
	case status < 300:
		return "useless"
	case status == 404 && !seen:
		return "missing"
	}
	return "refused"
}

// download fetches the video without the key; it returns nil if the link has expired.
func download(n note, address string) []byte {
	if !isPublic(address, n.BaseURL) {
		panic(Failed{"error", n.Job, "the URL of its video is not public"})
	}
	var r response
	deadline := now() + longestWait
	for number := 0; number < tries; number++ {
		if number > 0 && !pause(r, math.Pow(2, float64(number)), deadline) {
			break
		}
		r = send("GET", address, nil, nil, 300)
		if r.status == 200 && isMp4(r.body) {
			return r.body
		}
		if r.status == 403 || r.status == 410 {
			return nil
		}
	}
	panic(Failed{"error", n.Job, fmt.Sprintf("its video cannot be downloaded: status %d, %d bytes", r.status, len(r.body))})
}

// isPublic returns whether a URL is safe to fetch: http(s), on a public address or on the API's own host.
func isPublic(address, base string) bool {
	target, err := url.Parse(address)
	own, _ := url.Parse(base)
	if err != nil || (target.Scheme != "http" && target.Scheme != "https") || target.Hostname() == "" {
		return false
	}
	if own != nil && target.Hostname() == own.Hostname() {
		return true
	}
	found, err := net.LookupHost(target.Hostname())
	if err != nil || len(found) == 0 {
		return false
	}
	for _, one := range found {
		ip, err := netip.ParseAddr(one)
		if err != nil || (!ip.Is4() && !open.Contains(ip)) {
			return false
		}
		for _, prefix := range private {
			if prefix.Contains(ip) {
				return false
			}
		}
	}
	return true
}

// isMp4 returns whether bytes are a complete MP4 file: its boxes fill it exactly.
func isMp4(content []byte) bool {
	kinds := ""
	at := uint64(0)
	size := uint64(len(content))
	for at+8 <= size {
		length := uint64(binary.BigEndian.Uint32(content[at:]))
		if length == 1 && at+16 <= size {
			length = binary.BigEndian.Uint64(content[at+8:])
		} else if length == 0 {
			length = size - at
		}
		kinds += " " + string(content[at+4:at+8])
		if length < 8 {
			length = 8
		}
		if length > size-at {
			return false
		}
		at += length
	}
	return at == size && strings.HasPrefix(kinds, " ftyp") && strings.Contains(kinds, " moov") && strings.Contains(kinds, " mdat")
}

// save writes a file atomically.
func save(path string, content []byte) {
	if err := os.WriteFile(path+".part", content, 0o644); err != nil {
		panic(err)
	}
	if err := os.Rename(path+".part", path); err != nil {
		panic(err)
	}
}

// collect submits if the note has no job, saving the note before and after; it waits for the job and returns its video.
func collect(apiKey string, n note, keep func(note)) (string, []byte) {
	deadline := now() + longestWait
	if n.Job == "" {
		if float64(time.Now().Unix())-n.Ordered > keyLife {
			panic(Failed{"error", "", "the key " + n.Key + " is too old: HiAPI would not replay it, but make a second job"})
		}
		doubtful := n
		doubtful.Doubt = true
		keep(doubtful)
		n.Job = submit(n, apiKey, deadline)
		keep(n)
	}
	repeated := map[bool]bool{}
	for { // a missing URL gets one more poll, and so does an expired one
		address := wait(n, apiKey, deadline)
		if address != "" {
			if video := download(n, address); video != nil {
				return n.Job, video
			}
		}
		if repeated[address != ""] {
			if address != "" {
				panic(Failed{"error", n.Job, "it has succeeded, but its video is missing"})
			}
			panic(Failed{"failed", n.Job, "it has succeeded, but its video is missing"})
		}
		repeated[address != ""] = true
		deadline = math.Max(deadline, now()+grace)
	}
}

func report(job, class string, sum any) {
	var id any
	if job != "" {
		id = job
	}
	line, _ := json.Marshal(map[string]any{"job": id, "class": class, "id_exposed": job != "", "sha256": sum})
	fmt.Println(string(line))
}

func sameJSON(a, b []byte) bool {
	var one, other any
	if json.Unmarshal(a, &one) != nil || json.Unmarshal(b, &other) != nil {
		return false
	}
	first, _ := json.Marshal(one)
	second, _ := json.Marshal(other)
	return bytes.Equal(first, second)
}

func main() {
	output := os.Getenv("HOBBYHORSE_OUTPUT")
	noteFile := output + ".job"
	if found, err := strconv.ParseFloat(os.Getenv("HOBBYHORSE_SPEED"), 64); err == nil {
		speed = found
	}
	resume := len(os.Args) > 1 && os.Args[1] == "--resume"
	defer func() {
		switch failed := recover().(type) {
		case nil:
		case Failed:
			if failed.outcome == "failed" {
				os.Remove(noteFile)
			}
			fmt.Fprintln(os.Stderr, failed.Error())
			report(failed.job, failed.outcome, nil)
			os.Exit(1)
		default:
			panic(failed)
		}
	}()
	request, err := os.ReadFile(os.Getenv("HOBBYHORSE_REQUEST"))
	if err != nil {
		panic(err)
	}
	random := make([]byte, 16)
	rand.Read(random)
	n := note{strings.TrimRight(os.Getenv("HOBBYHORSE_BASE_URL"), "/"), request, fmt.Sprintf("%x", random), "", false, float64(time.Now().Unix())}
	if kept, err := os.ReadFile(noteFile); err == nil {
		if err := json.Unmarshal(kept, &n); err != nil {
			panic(err)
		}
		if !resume && !sameJSON(n.Request, request) {
			panic(Failed{"error", n.Job, noteFile + " belongs to another request: --resume collects its job"})
		}
	} else if resume {
		panic(Failed{"failed", "", "nothing to resume: " + noteFile + " does not exist"})
	}
	job, video := collect(os.Getenv("HOBBYHORSE_API_KEY"), n, func(changed note) {
		content, _ := json.Marshal(changed)
		save(noteFile, content)
	})
	save(output, video)
	os.Remove(noteFile)
	report(job, "success", fmt.Sprintf("%x", sha256.Sum256(video)))
}
