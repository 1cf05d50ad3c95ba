// Package mototest runs moto, which plays EC2 as others understand it, behind a proxy
// that adds what moto lacks: snapshots that are pending at first, lists of several
// pages, locks, and errors. It is for integration tests; `make testbed` installs moto.
package mototest

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-pg/holdfast/internal/barmantest"
	"github.com/holdfast-pg/holdfast/internal/snapshot/aws/awstest"
)

// Server is moto behind the proxy. What it is told to do is not changed while requests
// are served.
type Server struct {
	*httptest.Server
	// Pending is how many looks at a snapshot find it pending.
	Pending int
	// PageSize bounds a page of snapshots; 0 is no bound.
	PageSize int
	// Fail may refuse a request.
	Fail func(action string) *awstest.Failure
	// Log are the actions.
	Log []string

	mu    sync.Mutex
	looks map[string]int
	locks *awstest.Server // knows of snapshots what their locks are
	moto  *httputil.ReverseProxy
}

// Start runs moto until the test ends.
func Start(t *testing.T) *Server {
	t.Helper()
	at := &url.URL{Scheme: "http", Host: free(t)}
	_, port, _ := net.SplitHostPort(at.Host)
	barmantest.Start(t, 0, "env", "MOTO_EC2_LOAD_DEFAULT_AMIS=false", "python3", "-m", "moto.server", "-H", "127.0.0.1", "-p", port)
	for began := time.Now(); ; time.Sleep(25 * time.Millisecond) {
		if resp, err := http.Get(at.String()); err == nil {
			resp.Body.Close()
			break
		}
		if time.Since(began) > time.Minute {
			t.Fatal("moto does not answer")
		}
	}
	s := &Server{looks: map[string]int{}, locks: awstest.New(t)}
	s.moto = &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(at) }, ModifyResponse: s.change}
	s.Server = httptest.NewServer(s)
	t.Cleanup(s.Close)
	return s
}

func free(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	form, err := url.ParseQuery(string(body))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	action := form.Get("Action")
	s.Log = append(s.Log, action)
	if s.Fail != nil {
		if f := s.Fail(action); f != nil {
			w.WriteHeader(f.Status)
			fmt.Fprintf(w, "<Response><Errors><Error><Code>%s</Code><Message>%s</Message></Error></Errors></Response>", f.Code, f.Text)
			return
		}
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	if action == "LockSnapshot" || action == "DescribeLockedSnapshots" || action == "DeleteSnapshot" && s.locked(form.Get("SnapshotId")) {
		s.know(form.Get("SnapshotId"))
		s.locks.ServeHTTP(w, r)
		return
	}
	if action == "DescribeSnapshots" { // moto refuses both
		from := form.Get("NextToken")
		form.Del("NextToken")
		form.Del("MaxResults")
		body = []byte(form.Encode())
		r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
		r.Header.Set("X-From", from)
	}
	r.Header.Set("X-Action", action)
	s.moto.ServeHTTP(w, r)
}

// know enters a snapshot among those that can be locked.
func (s *Server) know(id string) {
	if id == "" || s.known(id) != nil {
		return
	}
	state := "completed"
	if s.looks[id] <= s.Pending {
		state = "pending"
	}
	s.locks.Add(awstest.Snapshot{ID: id, State: state})
}

func (s *Server) known(id string) *awstest.Snapshot {
	for _, one := range s.locks.Snapshots() {
		if one.ID == id {
			return &one
		}
	}
	return nil
}

func (s *Server) locked(id string) bool {
	one := s.known(id)
	return one != nil && one.Mode != ""
}

// Unlock ends all locks.
func (s *Server) Unlock() { s.locks.Unlock() }

// change makes snapshots pending, and pages.
func (s *Server) change(resp *http.Response) error {
	action := resp.Request.Header.Get("X-Action")
	if resp.StatusCode != http.StatusOK || !strings.Contains(action, "Snapshot") {
		return nil
	}
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	switch action {
	case "CreateSnapshot", "CreateSnapshots":
		text = pending(text)
	case "DescribeSnapshots":
		if text, err = s.page(text, resp.Request.Header.Get("X-From")); err != nil {
			return err
		}
	}
	resp.Body, resp.ContentLength = io.NopCloser(bytes.NewReader(text)), int64(len(text))
	resp.Header.Set("Content-Length", strconv.Itoa(len(text)))
	return nil
}

func pending(text []byte) []byte {
	for _, name := range []string{"status", "state"} {
		text = bytes.ReplaceAll(text, []byte("<"+name+">completed<"), []byte("<"+name+">pending<"))
	}
	return text
}

// page is what of a whole list is on the page that begins with a number.
func (s *Server) page(text []byte, from string) ([]byte, error) {
	var whole struct {
		Items []struct {
			ID   string `xml:"snapshotId"`
			Text []byte `xml:",innerxml"`
		} `xml:"snapshotSet>item"`
	}
	if err := xml.Unmarshal(text, &whole); err != nil {
		return nil, fmt.Errorf("%w in %q", err, text)
	}
	first, _ := strconv.Atoi(from)
	end := len(whole.Items)
	if s.PageSize > 0 {
		end = min(end, first+s.PageSize)
	}
	var b bytes.Buffer
	b.WriteString("<DescribeSnapshotsResponse><snapshotSet>")
	for _, one := range whole.Items[min(first, end):end] {
		if s.looks[one.ID]++; s.looks[one.ID] <= s.Pending {
			one.Text = pending(one.Text)
		}
		fmt.Fprintf(&b, "<item>%s</item>", one.Text)
	}
	b.WriteString("</snapshotSet>")
	if end < len(whole.Items) {
		fmt.Fprintf(&b, "<nextToken>%d</nextToken>", end)
	}
	b.WriteString("</DescribeSnapshotsResponse>")
	return b.Bytes(), nil
}
