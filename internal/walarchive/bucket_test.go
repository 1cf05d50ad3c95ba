package walarchive_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-pg/holdfast/internal/codec"
	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/objstore"
	"github.com/holdfast-pg/holdfast/internal/objstore/drivers"
	"github.com/holdfast-pg/holdfast/internal/wal"
	"github.com/holdfast-pg/holdfast/internal/walarchive"
)

// inBucket makes the archive of a bench one in a bucket, a directory served by the file driver.
func (b *bench) inBucket(t testing.TB, compression string) (wals string) {
	t.Helper()
	dir := filepath.Join(b.l.LockDir, "bucket")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	c, err := codec.New(compression, "low")
	if err != nil {
		t.Fatal(err)
	}
	at, err := objstore.ParseURL("file://" + dir)
	if err != nil {
		t.Fatal(err)
	}
	b.l.WALDir, b.l.XlogDBDir = "", b.l.MetaDir
	b.Archive = walarchive.Open(b.l, walarchive.Options{Compression: c, SegmentSize: mib, Bucket: &walarchive.Bucket{At: at,
		Open: func(ctx context.Context) (objstore.Store, error) {
			return drivers.Open(ctx, at, config.CloudOptions{}, &objstore.Policy{})
		}}})
	return filepath.Join(dir, "main", "wals")
}

func newBucket(t testing.TB, compression string) (b *bench, wals string) {
	t.Helper()
	b = newBench(t, "", mib)
	return b, b.inBucket(t, compression)
}

// TestBucket: the objects are Barman's, xlog.db says what is stored, and all comes back.
func TestBucket(t *testing.T) {
	for compression, suffix := range map[string]string{"none": "", "gzip": ".gz", "bzip2": ".bz2", "xz": ".xz", "snappy": ".snappy", "zstd": ".zst", "lz4": ".lz4"} {
		t.Run(compression, func(t *testing.T) {
			if _, err := exec.LookPath("bzip2"); err != nil && compression == "bzip2" {
				t.Fatal(err)
			}
			b, wals := newBucket(t, compression)
			names := []string{seg1, seg1 + ".00000028.backup", "00000002.history", seg2 + ".partial", seg2}
			b.archive(t, names...)
			b.archive(t, names...) // PostgreSQL asks again after a crash
			if got := b.lines(t); !slices.Equal(got, names) {
				t.Errorf("listed: %v", got)
			}
			if err := b.Each(t.Context(), func(e walarchive.Entry) error {
				st, err := os.Stat(filepath.Join(wals, wal.HashDir(e.Name), e.Name+suffix))
				if err != nil || e.Size != st.Size() || string(e.Compression) != strings.TrimPrefix(compression, "none") || b.Where(e) != "file://"+filepath.Join(wals, wal.HashDir(e.Name), e.Name+suffix) {
					t.Errorf("%s: %v, at %s", e, err, b.Where(e))
				}
				return nil
			}); err != nil {
				t.Fatal(err)
			}
			for _, name := range names {
				dest := filepath.Join(t.TempDir(), "RECOVERYXLOG")
				var sent bytes.Buffer
				err := errors.Join(b.Fetch(t.Context(), name, dest), b.Send(t.Context(), name, &sent, walarchive.Form{}))
				want, err1 := os.ReadFile(filepath.Join(b.src, name))
				got, err2 := os.ReadFile(dest)
				if err := errors.Join(err, err1, err2); err != nil || !bytes.Equal(got, want) || !bytes.Equal(sent.Bytes(), want) {
					t.Errorf("%s changed: %v", name, err)
				}
			}
			stored, err := b.Names(t.Context())
			slices.Sort(names)
			if err != nil || !slices.Equal(stored, names) {
				t.Errorf("stored: %v, %v", stored, err)
			}
			v, err := b.Verify(t.Context(), seg1, seg2, mib, systemID)
			if err != nil || v.Segments != 2 {
				t.Errorf("%+v, %v", v, err)
			}
			missing, err := b.Missing(t.Context(), seg1, seg3, mib)
			if err != nil || !slices.Equal(missing, []string{seg3}) {
				t.Errorf("missing: %v, %v", missing, err)
			}
			if got, err := b.Following(t.Context(), seg1, 9, mib); err != nil || !slices.Equal(got, []string{seg1, seg2}) {
				t.Errorf("following: %v, %v", got, err)
			}
			if size, err := b.SegmentSize(t.Context()); err != nil || size != mib {
				t.Errorf("segment size %d, %v", size, err)
			}
			if err := b.Fetch(t.Context(), seg3, filepath.Join(t.TempDir(), "x")); !fault.Is(err, fault.NotFound) {
				t.Errorf("%v", err)
			}
		})
	}
}

// TestTakenInAnotherForm: whatever suffix a name has there, it is taken, it is compared,
// and it is read.
func TestTakenInAnotherForm(t *testing.T) {
	b, wals := newBucket(t, "gzip")
	b.archive(t, seg1)
	b.inBucket(t, "zstd")
	b.archive(t, seg1)
	err := b.Archive.Archive(t.Context(), b.segment(t, seg1, "other"), seg1)
	if !fault.Is(err, fault.Conflict) || !strings.Contains(err.Error(), seg1+".gz has 1048576 bytes") || strings.Count(err.Error(), "SHA-256") != 2 {
		t.Errorf("%v", err)
	}
	if got := names(t, filepath.Join(wals, seg1[:16])); got != seg1+".gz" {
		t.Errorf("stored: %s", got)
	}
	if got := b.lines(t); !slices.Equal(got, []string{seg1}) {
		t.Errorf("listed: %v", got)
	}
	if _, err := b.Verify(t.Context(), seg1, seg1, mib, systemID); err != nil {
		t.Error(err)
	}
}

// TestDeleteFromBucket: exactly the names go, in all forms; their neighbours, and what
// is none of ours, stay.
func TestDeleteFromBucket(t *testing.T) {
	b, wals := newBucket(t, "gzip")
	b.archive(t, seg1, seg1+".00000028.backup", seg1+".partial", seg2, "00000002.history")
	dir := filepath.Join(wals, seg1[:16])
	for _, stray := range []string{seg1, seg1 + ".zst", seg1 + ".foreign", "notes.txt"} {
		if err := os.WriteFile(filepath.Join(dir, stray), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if n, err := b.Delete(t.Context(), []string{seg1, seg3, "00000002.history"}); err != nil || n != 2 {
		t.Errorf("%d, %v", n, err)
	}
	want := strings.Join([]string{seg1 + ".00000028.backup.gz", seg1 + ".foreign", seg1 + ".partial.gz", seg2 + ".gz", "notes.txt"}, " ")
	if got := names(t, dir); got != want {
		t.Errorf("left:\n%s\nnot\n%s", got, want)
	}
	if got := b.lines(t); !slices.Equal(got, []string{seg1 + ".00000028.backup", seg1 + ".partial", seg2}) {
		t.Errorf("listed: %v", got)
	}
	if got, err := b.Names(t.Context()); err != nil || !slices.Equal(got, []string{seg1 + ".00000028.backup", seg1 + ".partial", seg2}) {
		t.Errorf("%v, %v", got, err)
	}
}

// TestKilledBeforeTheLine: the next try finds the object and lists it, as stored.
func TestKilledBeforeTheLine(t *testing.T) {
	b, _ := newBucket(t, "gzip")
	b.archive(t, seg1, seg2)
	want, err := os.ReadFile(b.l.XlogDB())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(b.l.XlogDB()); err != nil {
		t.Fatal(err)
	}
	b.inBucket(t, "zstd") // a changed option does not change what is stored
	b.archive(t, seg1, seg2)
	if got, err := os.ReadFile(b.l.XlogDB()); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%v\n%s\nnot\n%s", err, got, want)
	}
	n, err := b.Rebuild(t.Context())
	if err != nil || n[wal.SegmentFile] != 2 || !slices.Equal(b.lines(t), []string{seg1, seg2}) {
		t.Errorf("%v, %v", n, err)
	}
}

// TestTwoArchiversOfOneBucket: one of them wins, and the other one sees whether it is the same.
func TestTwoArchiversOfOneBucket(t *testing.T) {
	b, _ := newBucket(t, "zstd")
	for n := 1; n <= 20; n++ {
		name := wal.Segment{TLI: 1, No: uint64(n), Size: mib}.Name()
		same := b.segment(t, name, "same")
		other := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(other, segment(t, name, mib, []string{"same", "else"}[n%2]), 0o600); err != nil {
			t.Fatal(err)
		}
		var errs [2]error
		var both sync.WaitGroup
		for i, path := range []string{same, other} {
			both.Go(func() { errs[i] = b.Archive.Archive(t.Context(), path, name) })
		}
		both.Wait()
		if refused := fault.Is(errs[0], fault.Conflict) != fault.Is(errs[1], fault.Conflict); refused != (n%2 == 1) || n%2 == 0 && errors.Join(errs[:]...) != nil {
			t.Errorf("%d: %v", n, errs)
		}
	}
}

// TestHistoriesOfBucket are found without a line for them, and without listing every segment.
func TestHistoriesOfBucket(t *testing.T) {
	b, _ := newBucket(t, "gzip")
	for tli := 2; tli <= 4; tli++ {
		name := wal.HistoryName(uint32(tli))
		if err := b.Archive.Archive(t.Context(), b.write(t, name, fmt.Appendf(nil, "%d\t0/%X\tno recovery target specified\n", tli-1, tli*mib)), name); err != nil {
			t.Fatal(err)
		}
	}
	b.archive(t, "000000090000000000000009")
	path := b.write(t, "00000009.history", []byte("4\t0/800000\tx\n"))
	if err := b.Archive.Archive(t.Context(), path, "00000009.history"); err != nil {
		t.Fatal(err)
	}
	got, err := b.Histories(t.Context())
	if err != nil || len(got) != 4 {
		t.Errorf("%v, %v", got, err)
	}
	if err := os.Remove(b.l.XlogDB()); err != nil {
		t.Fatal(err)
	}
	if got, err = b.Histories(t.Context()); err != nil || len(got) != 3 {
		t.Errorf("without xlog.db: %v, %v", got, err)
	}
}

// TestArrivedGoesToTheBucket: what was delivered and what was streamed.
func TestArrivedGoesToTheBucket(t *testing.T) {
	b, put := streamed(t, walarchive.Options{})
	put(b.l.IncomingDir, seg1, "x")
	put(b.l.StreamingDir, seg2, "x")
	put(b.l.StreamingDir, seg3+".partial", "x")
	wals := b.inBucket(t, "gzip")
	in, err := b.ArchiveArrived(t.Context(), time.Date(2026, 11, 24, 9, 5, 7, 0, time.UTC))
	if err != nil || !slices.Equal(in.Archived, []string{seg1, seg2}) {
		t.Errorf("%+v, %v", in, err)
	}
	if got := names(t, filepath.Join(wals, seg1[:16])); got != seg1+".gz "+seg2+".gz" {
		t.Errorf("stored: %s", got)
	}
	if left := names(t, b.l.IncomingDir) + names(t, b.l.StreamingDir); left != seg3+".partial" {
		t.Errorf("left: %s", left)
	}
}

func TestWhatABucketCannotHave(t *testing.T) {
	for text, s := range map[string]*config.Server{
		"compression": {WALOptions: config.WALOptions{Compression: "custom", CustomCompressionFilter: "x", CustomDecompressionFilter: "y"}},
		"encryption":  {CopyOptions: config.CopyOptions{Encryption: "gpg", EncryptionKeyID: "x"}},
		"scheme":      {},
	} {
		s.WALsCloud = &config.CloudURL{URL: "s3://b/x"}
		if text == "scheme" {
			s.WALsCloud.URL = "x"
		}
		if _, err := walarchive.ForServer(s, drivers.Open); !fault.Is(err, fault.Config) || !strings.Contains(err.Error(), text) || fault.HintOf(err) == "" {
			t.Errorf("%s: %v", text, err)
		}
	}
}
