//go:build integration

package main

import (
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdfast-pg/holdfast/internal/atomicfile"
	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/internal/objstore/storetest"
	"github.com/holdfast-pg/holdfast/internal/pgtest"
	"github.com/holdfast-pg/holdfast/internal/stacktest"
)

// wrongly answers requests that store volumes, instead of the store.
func (c *cloud) wrongly(answer func(w http.ResponseWriter, r *http.Request) (done bool)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.fault = nil
	if answer != nil {
		c.fault = func(w http.ResponseWriter, r *http.Request) bool {
			return strings.Contains(r.URL.Path, "_0") && answer(w, r)
		}
	}
}

// s3Error is an answer of S3.
func s3Error(w http.ResponseWriter, status int, code, message string) bool {
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	fmt.Fprintf(w, "<?xml version=\"1.0\"?><Error><Code>%s</Code><Message>%s</Message></Error>", code, message)
	return true
}

// flipping is a body whose first bit is wrong.
type flipping struct {
	io.ReadCloser
	done bool
}

func (f *flipping) Read(p []byte) (int, error) {
	n, err := f.ReadCloser.Read(p)
	if n > 0 && !f.done {
		p[0] ^= 1
		f.done = true
	}
	return n, err
}

// TestStoreFaults: what waiting cures costs time; anything else fails the backup with its
// cause and its cure.
func TestStoreFaults(t *testing.T) {
	t.Parallel()
	b := newCloudBed(t, pgtest.Versions()[1])
	var from time.Time // of the first request
	var asked atomic.Int64
	first := func() (n int64, since time.Duration) {
		if n = asked.Add(1); n == 1 {
			from = time.Now()
		}
		return n, time.Since(from)
	}
	for _, c := range []struct {
		name   string
		answer func(w http.ResponseWriter, r *http.Request) bool
		says   []string // in what show-backup says; nil for a backup that is DONE
	}{
		{name: "a storm of 503", answer: func(w http.ResponseWriter, _ *http.Request) bool {
			_, since := first()
			return since < 4*time.Second && s3Error(w, http.StatusServiceUnavailable, "SlowDown", "Please reduce your request rate.")
		}},
		{name: "resets in the middle of a body", answer: func(w http.ResponseWriter, r *http.Request) bool {
			if n, _ := first(); n > 4 || r.Method != http.MethodPut {
				return false
			}
			_, _ = io.CopyN(io.Discard, r.Body, 10_000)
			if conn, _, err := http.NewResponseController(w).Hijack(); err == nil {
				conn.Close()
			}
			return true
		}},
		{name: "away", answer: func(w http.ResponseWriter, _ *http.Request) bool {
			_, since := first()
			if since > 10*time.Second {
				return false
			}
			w.WriteHeader(http.StatusBadGateway)
			return true
		}},
		{name: "damaged on its way", answer: func(_ http.ResponseWriter, r *http.Request) bool {
			if n, _ := first(); n <= 2 {
				r.Body = &flipping{ReadCloser: r.Body}
			}
			return false
		}},
		{name: "damaged each time", says: []string{"_000", "does not match its checksum", "use https"}, answer: func(_ http.ResponseWriter, r *http.Request) bool {
			if r.Method == http.MethodPut {
				r.Body = &flipping{ReadCloser: r.Body}
			}
			return false
		}},
		{name: "another time", says: []string{"_000", "clock", "timedatectl"}, answer: func(w http.ResponseWriter, _ *http.Request) bool {
			return s3Error(w, http.StatusForbidden, "RequestTimeTooSkewed", "The difference between the request time and the current time is too large.")
		}},
		{name: "full", says: []string{"the store is full", "make room"}, answer: func(w http.ResponseWriter, r *http.Request) bool {
			return r.Method != http.MethodGet && s3Error(w, http.StatusInsufficientStorage, "XMinioStorageFull", "Storage backend has reached its minimum free drive threshold.")
		}},
		{name: "over its quota", says: []string{"the store is full", "make room"}, answer: func(w http.ResponseWriter, r *http.Request) bool {
			return r.Method != http.MethodGet && s3Error(w, http.StatusForbidden, "QuotaExceeded", "Your request was denied due to quota exceeded.")
		}},
		{name: "no right to write", says: []string{"_000", "AccessDenied", "What to do"}, answer: func(w http.ResponseWriter, _ *http.Request) bool {
			return s3Error(w, http.StatusForbidden, "AccessDenied", "Access Denied")
		}},
		{name: "the bucket is gone", says: []string{"does not exist", "create it"}, answer: func(w http.ResponseWriter, _ *http.Request) bool {
			return s3Error(w, http.StatusNotFound, "NoSuchBucket", "The specified bucket does not exist")
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			asked.Store(0)
			before := b.count(t)
			b.cloud.wrongly(c.answer)
			r := b.Holdfast(t, "-f", "json", "backup", stacktest.Server, "--wait")
			b.cloud.wrongly(nil)
			if c.says == nil {
				b.verify(t, took(t, r), before)
				return
			}
			id, _ := b.newest()
			show := b.Must(t, "show-backup", stacktest.Server, string(id)).Stdout
			if r.Code != 1 && r.Code != 2 || !strings.Contains(show, "FAILED") {
				t.Errorf("exit code %d: %s", r.Code, show)
			}
			for _, want := range c.says {
				if !strings.Contains(show, want) {
					t.Errorf("%q is missing in: %s", want, show)
				}
			}
			b.CheckNothingIsLeft(t)
			b.cloud.removed(t, b, id)
		})
	}
	t.Run("what is read is cut off", func(t *testing.T) {
		got := b.backup(t)
		b.cloud.cuts.Store(3)
		dest := filepath.Join(pgtest.Dir(t), "restored")
		b.Must(t, "restore", stacktest.Server, string(got.ID), dest, "--tablespace", "odd name's:"+dest+"-ts")
		if left := b.cloud.cuts.Load(); left > 0 {
			t.Errorf("%d reads were not cut off", left)
		}
		b.verify(t, got, 0)
	})
}

// TestCredentialsExpire: a backup whose credentials expire waits for new ones in the file that they
// are read from, and says so.
func TestCredentialsExpire(t *testing.T) {
	t.Parallel()
	c := newCloud(t)
	file := filepath.Join(pgtest.Dir(t), "credentials")
	replace := func(key string) {
		err := atomicfile.Write(file, fmt.Appendf(nil, "[default]\naws_access_key_id = %s\naws_secret_access_key = %s\n", key, storetest.SecretKey), 0o644)
		if err != nil {
			t.Error(err)
		}
	}
	replace(storetest.AccessKey)
	env := c.Environment()
	env["AWS_ACCESS_KEY_ID"], env["AWS_SECRET_ACCESS_KEY"], env["AWS_SHARED_CREDENTIALS_FILE"] = "", "", file
	b := newBedWith(t, stacktest.Options{Version: pgtest.Versions()[1], Method: config.MethodLocalToCloud, Env: env, Settings: c.settings()})
	b.cloud = c
	before := b.count(t)
	// What is in the file expires with the first volume; versitygw itself knows no such credentials.
	const expired = "holdfast-expired"
	var once sync.Once
	c.mu.Lock()
	c.fault = func(w http.ResponseWriter, r *http.Request) bool {
		refuse := strings.Contains(r.Header.Get("Authorization"), expired)
		if strings.Contains(r.URL.Path, "_0") {
			once.Do(func() { replace(expired); refuse = true })
		}
		return refuse && s3Error(w, http.StatusBadRequest, "ExpiredToken", "The provided token has expired.")
	}
	c.mu.Unlock()
	taken := make(chan stacktest.Result, 1)
	go func() { taken <- b.Holdfast(t, "-f", "json", "backup", stacktest.Server, "--wait") }()
	said := ""
	for deadline := time.Now().Add(2 * time.Minute); !strings.Contains(said, "the credentials have expired") || !strings.Contains(said, "log in again"); {
		if time.Now().After(deadline) {
			t.Fatalf("status does not tell what the backup waits for: %s", said)
		}
		time.Sleep(200 * time.Millisecond)
		said = b.Holdfast(t, "status", stacktest.Server).Stdout
	}
	replace(storetest.AccessKey)
	b.verify(t, took(t, <-taken), before)
	if again := c.twice(); len(again) > 0 {
		t.Errorf("sent twice: %q", again)
	}
}
