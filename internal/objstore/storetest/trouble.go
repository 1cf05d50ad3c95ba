package storetest

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/objstore"
)

// Trouble has a front do what networks and stores do. reads reports whether a request is one for
// the content of an object.
func Trouble(t *testing.T, f *Front, open func(t *testing.T, p *objstore.Policy) objstore.Store, reads func(r *http.Request) bool) {
	with := func(b bend) {
		f.bend.Store(&b)
		t.Cleanup(func() { f.bend.Store(nil) })
	}
	patient := func() *objstore.Policy { return &objstore.Policy{Patience: time.Minute} }
	t.Run("busy", func(t *testing.T) {
		var left atomic.Int64
		with(func(w http.ResponseWriter, _ *http.Request, _ http.Handler) bool {
			busy := left.Add(-1) >= 0
			if busy {
				w.WriteHeader(http.StatusServiceUnavailable)
			}
			return busy
		})
		left.Store(3)
		p := patient()
		if _, err := open(t, p).Put(t.Context(), "trouble/busy", strings.NewReader("x"), objstore.PutOptions{}); err != nil || p.Counts.Retries.Load() != 3 {
			t.Errorf("three times: %v after %d retries", err, p.Counts.Retries.Load())
		}
		left.Store(1 << 30)
		_, err := open(t, &objstore.Policy{Patience: time.Second}).Put(t.Context(), "trouble/busy", strings.NewReader("x"), objstore.PutOptions{})
		if !fault.Is(err, fault.Connection) || !strings.Contains(err.Error(), "give up after 1s") || !strings.Contains(err.Error(), "503") || fault.HintOf(err) == "" {
			t.Errorf("for ever: %v (%s)", err, fault.HintOf(err))
		}
	})
	t.Run("lost answers", func(t *testing.T) { lostAnswers(t, with, open, patient) })
	data := Bytes(1<<20, 1)
	store := open(t, patient())
	put(t, store, "trouble/read", data)
	answer := func(change func(body []byte) []byte) {
		with(func(w http.ResponseWriter, r *http.Request, next http.Handler) bool {
			if !reads(r) {
				return false
			}
			rec := httptest.NewRecorder()
			next.ServeHTTP(rec, r)
			for name, values := range rec.Header() {
				w.Header()[name] = values
			}
			w.WriteHeader(rec.Code)
			_, _ = w.Write(change(rec.Body.Bytes()))
			return true
		})
	}
	t.Run("answers break off", func(t *testing.T) {
		answer(func(body []byte) []byte { return body[:min(len(body), 300<<10)] })
		if got := get(t, store, "trouble/read", objstore.Whole()); !bytes.Equal(got, data) {
			t.Errorf("%d other bytes", len(got))
		}
	})
	t.Run("a flipped bit", func(t *testing.T) {
		answer(func(body []byte) []byte {
			if len(body) > 5000 {
				body[5000] ^= 1
			}
			return body
		})
		in, _, err := store.Get(t.Context(), "trouble/read", objstore.Whole())
		if err != nil {
			t.Fatal(err)
		}
		defer in.Close()
		if _, err := io.Copy(io.Discard, in); !fault.Is(err, fault.Corrupt) {
			t.Errorf("it is read as if it were well: %v", err)
		}
	})
}

// lostAnswers loses the answer to each request that changes something, one an upload: it is carried out all the same.
func lostAnswers(t *testing.T, with func(bend), open func(t *testing.T, p *objstore.Policy) objstore.Store, patient func() *objstore.Policy) {
	var left atomic.Int64
	with(func(w http.ResponseWriter, r *http.Request, next http.Handler) bool {
		if r.Method != http.MethodPut && r.Method != http.MethodPost || left.Add(-1) != 0 {
			return false
		}
		next.ServeHTTP(httptest.NewRecorder(), r)
		w.WriteHeader(http.StatusBadGateway)
		return true
	})
	store := open(t, patient())
	for _, size := range []int{10, objstore.MinPart + 7} {
		lost := 0
		for {
			data, key := Bytes(size, uint64(lost)), fmt.Sprintf("trouble/lost-%d-%d", size, lost+1)
			left.Store(int64(lost + 1))
			if _, err := store.Put(t.Context(), key, stream(data), objstore.PutOptions{IfAbsent: true}); err != nil {
				t.Errorf("%d bytes, answer %d: %v", size, lost+1, err)
			}
			if left.Load() > 0 {
				break // there were not so many
			}
			lost++
			if got := get(t, store, key, objstore.Whole()); !bytes.Equal(got, data) {
				t.Errorf("%d bytes, answer %d: %d other bytes", size, lost, len(got))
			}
		}
		if lost == 0 || size > objstore.MinPart && lost < 4 {
			t.Errorf("%d bytes: only %d answers could be lost", size, lost)
		}
	}
	// What somebody else has put meanwhile is no lost answer of ours.
	put(t, store, "trouble/theirs", []byte("theirs"))
	left.Store(1)
	if _, err := store.Put(t.Context(), "trouble/theirs", strings.NewReader("ours!!"), objstore.PutOptions{IfAbsent: true}); !fault.Is(err, fault.Conflict) {
		t.Errorf("somebody else's: %v", err)
	}
}
