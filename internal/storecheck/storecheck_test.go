package storecheck_test

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-pg/holdfast/internal/check"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/objstore"
	"github.com/holdfast-pg/holdfast/internal/objstore/file"
	"github.com/holdfast-pg/holdfast/internal/storecheck"
)

func open(t *testing.T, dir string) *file.Store {
	t.Helper()
	s, err := file.Open(objstore.Location{Provider: objstore.File, Bucket: dir}, &objstore.Policy{})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// bent is a directory with one thing wrong.
type bent struct {
	*file.Store
	put    func(s *file.Store, ctx context.Context, key string, r io.Reader, o objstore.PutOptions) (objstore.Object, error)
	get    func(s *file.Store, ctx context.Context, key string, r objstore.Range) (io.ReadCloser, objstore.Object, error)
	delete func(s *file.Store, ctx context.Context, keys ...string) error
	abort  func() error
}

func (b bent) Put(ctx context.Context, key string, r io.Reader, o objstore.PutOptions) (objstore.Object, error) {
	if b.put != nil {
		return b.put(b.Store, ctx, key, r, o)
	}
	return b.Store.Put(ctx, key, r, o)
}

func (b bent) Get(ctx context.Context, key string, r objstore.Range) (io.ReadCloser, objstore.Object, error) {
	if b.get != nil {
		return b.get(b.Store, ctx, key, r)
	}
	return b.Store.Get(ctx, key, r)
}

func (b bent) Delete(ctx context.Context, keys ...string) error {
	if b.delete != nil {
		return b.delete(b.Store, ctx, keys...)
	}
	return b.Store.Delete(ctx, keys...)
}

func (b bent) Abort(ctx context.Context, u objstore.Upload) error {
	if b.abort != nil {
		return b.abort()
	}
	return b.Store.Abort(ctx, u)
}

// TestFindsWhatIsWrong: each fault fails its own items, in words, and a store without one none.
func TestFindsWhatIsWrong(t *testing.T) {
	denied := fault.New(fault.Permission, "put", "x", "denied").WithHint("give the right")
	for _, c := range []struct {
		name   string
		bend   bent
		off    time.Duration // of our clock
		failed string
		says   string
	}{
		{name: "nothing"},
		{name: "put denied", failed: "put", says: "denied; give the right",
			bend: bent{put: func(*file.Store, context.Context, string, io.Reader, objstore.PutOptions) (objstore.Object, error) {
				return objstore.Object{}, denied
			}}},
		{name: "put-if-absent ignored", failed: "put if absent", says: "two writers both",
			bend: bent{put: func(s *file.Store, ctx context.Context, key string, r io.Reader, o objstore.PutOptions) (objstore.Object, error) {
				o.IfAbsent = false
				return s.Put(ctx, key, r, o)
			}}},
		{name: "checksums ignored", failed: "checksums", says: "does not look at checksums",
			bend: bent{put: func(s *file.Store, ctx context.Context, key string, r io.Reader, o objstore.PutOptions) (objstore.Object, error) {
				o.CRC32C = nil
				return s.Put(ctx, key, r, o)
			}}},
		{name: "ranges ignored", failed: "read, put if absent, names, large objects, multipart uploads, server-side copy", says: "others",
			bend: bent{get: func(s *file.Store, ctx context.Context, key string, _ objstore.Range) (io.ReadCloser, objstore.Object, error) {
				return s.Get(ctx, key, objstore.Whole())
			}}},
		{name: "nothing is deleted", failed: "delete, tidy up", says: "no right to delete",
			bend: bent{delete: func(*file.Store, context.Context, ...string) error {
				return fault.New(fault.Permission, "delete", "x", "no right to delete")
			}}},
		{name: "nothing is aborted", failed: "unfinished uploads", says: "1 unfinished uploads are listed where there is 0", bend: bent{abort: func() error { return nil }}},
		{name: "clock ahead", off: -5 * time.Minute, failed: "clock", says: "5m0s ahead of"},
		{name: "clock behind", off: 90 * time.Second, failed: "clock", says: "1m30s behind"},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.bend.Store = open(t, t.TempDir())
			items, err := storecheck.Run(t.Context(), c.bend, func() time.Time { return time.Now().Add(c.off) })
			if err != nil {
				t.Fatal(err)
			}
			var failed []string
			said := ""
			for _, i := range items {
				if !i.OK {
					failed, said = append(failed, i.Name), said+i.Hint+"\n"
				}
			}
			if got := strings.Join(failed, ", "); got != c.failed || !strings.Contains(said, c.says) || check.Failed(items) != (c.failed != "") {
				t.Errorf("failed: %s\n%s", got, said)
			}
		})
	}
}

// TestInterrupted: wherever it is interrupted, nothing is left.
func TestInterrupted(t *testing.T) {
	for _, n := range []int{0, 1, 3, 6, 10, 12, 100} {
		dir := t.TempDir()
		ctx, cancel := context.WithCancel(t.Context())
		var puts atomic.Int32
		s := bent{Store: open(t, dir), put: func(s *file.Store, ctx context.Context, key string, r io.Reader, o objstore.PutOptions) (objstore.Object, error) {
			if int(puts.Add(1)) > n {
				cancel()
			}
			return s.Put(ctx, key, r, o)
		}}
		_, err := storecheck.Run(ctx, s, time.Now)
		if interrupted := ctx.Err() != nil; interrupted != (err != nil) || interrupted && !fault.Is(err, fault.Cancelled) {
			t.Errorf("%d: %v", n, err)
		}
		cancel()
		if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
			t.Errorf("%d: left: %v, %v", n, entries, err)
		}
	}
}

// TestInterruptedWhileAStoreHangs: the request is cut off, and it is said that it may still be carried out.
func TestInterruptedWhileAStoreHangs(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		s := bent{Store: open(t, dir), put: func(s *file.Store, ctx context.Context, key string, r io.Reader, o objstore.PutOptions) (objstore.Object, error) {
			if strings.HasSuffix(key, "large") {
				cancel()
				<-ctx.Done()
				return objstore.Object{}, ctx.Err()
			}
			return s.Put(ctx, key, r, o)
		}}
		began := time.Now()
		_, err := storecheck.Run(ctx, s, time.Now)
		if took := time.Since(began); took != 5*time.Second || !fault.Is(err, fault.Cancelled) || !strings.Contains(err.Error(), "may still carry it out") {
			t.Errorf("after %v: %v", took, err)
		}
	})
	if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
		t.Errorf("left: %v, %v", entries, err)
	}
}

// TestLeftovers: what a killed check has left goes after a day, and nothing else does.
func TestLeftovers(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	old := time.Now().Add(-25 * time.Hour)
	for _, key := range []string{storecheck.Prefix + "old/x", storecheck.Prefix + "young/x", "holdfast/x"} {
		if _, err := s.Put(t.Context(), key, strings.NewReader("x"), objstore.PutOptions{}); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(key, "young") {
			if err := os.Chtimes(filepath.Join(dir, key), old, old); err != nil {
				t.Fatal(err)
			}
		}
	}
	if _, err := storecheck.Run(t.Context(), s, time.Now); err != nil {
		t.Fatal(err)
	}
	_, oldErr := s.Stat(t.Context(), storecheck.Prefix+"old/x")
	_, youngErr := s.Stat(t.Context(), storecheck.Prefix+"young/x")
	_, otherErr := s.Stat(t.Context(), "holdfast/x")
	if !fault.Is(oldErr, fault.NotFound) || errors.Join(youngErr, otherErr) != nil {
		t.Errorf("old: %v, young: %v, another: %v", oldErr, youngErr, otherErr)
	}
}
