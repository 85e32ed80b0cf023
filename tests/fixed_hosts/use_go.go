// A client with fixed hosts, with net/http of Go.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"
)

type plan struct {
	Submit, Poll, Done string
	Result             *string
	ID, Status, Video  []any
}

func must[T any](value T, err error) T {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	return value
}

func send(method, url string, body []byte, known bool) []byte {
	request := must(http.NewRequest(method, url, bytes.NewReader(body)))
	if known {
		request.Header.Set("Authorization", "Bearer "+os.Getenv("HOBBYHORSE_API_KEY"))
	}
	if len(body) > 0 {
		request.Header.Set("Content-Type", "application/json")
	}
	client := http.Client{Timeout: 30 * time.Second}
	response := must(client.Do(request))
	defer response.Body.Close()
	content := must(io.ReadAll(response.Body))
	if response.StatusCode >= 400 {
		must(0, fmt.Errorf("%s: %s", url, response.Status))
	}
	return content
}

func at(content []byte, path []any) string {
	var value any
	must(0, json.Unmarshal(content, &value))
	for _, name := range path {
		switch step := name.(type) {
		case string:
			value = value.(map[string]any)[step]
		case float64:
			value = value.([]any)[int(step)]
		}
	}
	return value.(string)
}

func main() {
	var plans map[string]plan
	must(0, json.Unmarshal(must(os.ReadFile(os.Getenv("PLANS"))), &plans))
	chosen := plans[os.Args[1]]
	order := must(os.ReadFile(os.Getenv("HOBBYHORSE_REQUEST")))
	submit := strings.ReplaceAll(chosen.Submit, "{model}", os.Getenv("HOBBYHORSE_MODEL"))
	job := at(send("POST", submit, order, true), chosen.ID)
	var found []byte
	for polls := 0; polls < 300; polls++ {
		found = send("GET", strings.ReplaceAll(chosen.Poll, "{id}", job), nil, true)
		if at(found, chosen.Status) == chosen.Done {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	if chosen.Result != nil {
		found = send("GET", strings.ReplaceAll(*chosen.Result, "{id}", job), nil, true)
	}
	link := at(found, chosen.Video)
	must(0, os.WriteFile(os.Getenv("HOBBYHORSE_OUTPUT"), send("GET", link, nil, false), 0o644))
	fmt.Printf("{\"class\": \"success\", \"job\": %q, \"link\": %q}\n", job, link)
}
