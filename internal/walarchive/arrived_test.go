package walarchive_test

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-pg/holdfast/internal/fault"
)

func TestArchiveArrived(t *testing.T) {
	b := newBench(t, "gzip", mib)
	b.archive(t, seg1, seg2)
	now := time.Date(2026, 11, 24, 9, 5, 7, 0, time.UTC)
	put := func(name string, data []byte) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(b.l.IncomingDir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	put(seg1, segment(t, seg1, mib, seg1))
	put(seg2, segment(t, seg2, mib, "other"))
	put(seg3, segment(t, seg3, mib, "new"))
	put("000000010000000000000004", segment(t, "000000010000000000000004", mib, "half")[:mib/2])
	put("000000010000000000000005.tmp", []byte("x"))
	put("00000002.history", []byte("1\t0/3000000\tno recovery target specified\n"))
	put("00000003.history", []byte("1\t0/30000"))
	put("notes.txt", []byte("x"))
	got, err := b.ArchiveArrived(t.Context(), now)
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{seg1, seg3, "00000002.history"}; !reflect.DeepEqual(got.Archived, want) {
		t.Errorf("archived %v", got.Archived)
	}
	if len(got.Conflicts) != 1 || len(got.Unknown) != 1 || len(got.Unfinished) != 2 {
		t.Errorf("%+v", got)
	}
	for dir, want := range map[string]string{
		b.l.IncomingDir: "000000010000000000000004 000000010000000000000005.tmp 00000003.history",
		b.l.ErrorsDir:   seg2 + ".20261124T090507Z.duplicate notes.txt.20261124T090507Z.unknown",
	} {
		if got := names(t, dir); got != want {
			t.Errorf("%s: %s", dir, got)
		}
	}
	put("000000010000000000000004", segment(t, "000000010000000000000004", mib, "half"))
	if got, err := b.ArchiveArrived(t.Context(), now); err != nil || len(got.Archived) != 1 {
		t.Errorf("%+v, %v", got, err)
	}
	if missing, err := b.Missing(t.Context(), seg1, "000000010000000000000005", mib); err != nil || len(missing) != 1 {
		t.Errorf("%v, %v", missing, err)
	}
	lock, err := b.l.LockArchiving()
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Release()
	if _, err := b.ArchiveArrived(t.Context(), now); !fault.Is(err, fault.Refused) {
		t.Errorf("%v", err)
	}
}

func names(t testing.TB, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return strings.Join(out, " ")
}
