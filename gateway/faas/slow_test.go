package faas_test

import (
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// Connections that announce large bodies and send nothing keep nobody from sending one.
func TestSlowBodies(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	for range 16 {
		conn, err := net.Dial("tcp", strings.TrimPrefix(w.http.URL, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := fmt.Fprintf(conn, "POST /register_function HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 16000000\r\n\r\n{"); err != nil {
			t.Fatal(err)
		}
	}
	client := *w.http.Client()
	client.Timeout = 20 * time.Second // bodies may take 30
	body := `{"name":"large","payload":"` + strings.Repeat("!", 200<<10) + `"}`
	resp, err := client.Post(w.http.URL+"/register_function", "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusBadRequest { // its payload is no base 64
		t.Errorf("status %d", resp.StatusCode)
	}
}
