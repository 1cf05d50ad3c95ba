package storetest

import (
	"bytes"
	"io"
	"testing"
	"time"

	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/objstore"
)

// serverDies: what waiting cures is cured, in the middle of an upload and of a
// download; else the error comes within the time that was given.
func (s Suite) serverDies(t *testing.T) {
	p := &objstore.Policy{Patience: 30 * time.Second}
	store := s.Open(t, p)
	data := Bytes(20<<20, 8)
	away := func() {
		s.Kill(t)
		time.AfterFunc(500*time.Millisecond, func() { s.Start(t) })
	}
	once := &reading{r: bytes.NewReader(data), at: 12 << 20, then: away}
	if _, err := store.Put(t.Context(), "dies/x", once, objstore.PutOptions{IfAbsent: true}); err != nil {
		t.Errorf("put: %v", err)
	}
	in, _, err := store.Get(t.Context(), "dies/x", objstore.Whole())
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	got, err := io.ReadAll(&reading{r: in, at: 5 << 20, then: away})
	if err != nil || !bytes.Equal(got, data) {
		t.Errorf("get: %d bytes, %v", len(got), err)
	}
	if p.Counts.Retries.Load() < 2 {
		t.Errorf("%d requests were tried again", p.Counts.Retries.Load())
	}
	s.Kill(t)
	defer s.Start(t)
	began := time.Now()
	_, err = s.Open(t, &objstore.Policy{Patience: time.Second}).Stat(t.Context(), "dies/x")
	if took := time.Since(began); !fault.Is(err, fault.Connection) || fault.HintOf(err) == "" || took < time.Second || took > 5*time.Second {
		t.Errorf("after %v: %v (%s)", took, err, fault.HintOf(err))
	}
	began = time.Now()
	if _, err := s.Open(t, &objstore.Policy{}).Stat(t.Context(), "dies/x"); !fault.Is(err, fault.Connection) || time.Since(began) > time.Second {
		t.Errorf("without patience, after %v: %v", time.Since(began), err)
	}
}

// reading does something once when some bytes have passed.
type reading struct {
	r    io.Reader
	at   int
	then func()
}

func (r *reading) Read(b []byte) (int, error) {
	n, err := r.r.Read(b[:min(len(b), 1<<20)])
	if r.at > 0 && r.at-n <= 0 {
		r.then()
	}
	r.at -= n
	return n, err
}
