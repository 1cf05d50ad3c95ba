package walarchive_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/wal"
)

func TestDelete(t *testing.T) {
	b := newBench(t, "", mib)
	const far = "000000010000000100000000"
	b.archive(t, seg1, seg2, seg2+".00000028.backup", seg3, far, "00000002.history")
	for range 2 {
		if _, err := b.Delete(t.Context(), []string{seg1, seg2, seg2 + ".00000028.backup", far, "000000010000000000000009"}); err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(b.lines(t), " "); got != seg3+" 00000002.history" {
			t.Error(got)
		}
		if got := names(t, b.l.WALDir); got != "0000000100000000 00000002.history main-xlog.db" {
			t.Error(got)
		}
		if got := names(t, filepath.Dir(b.Path(seg3))); got != seg3 {
			t.Error(got)
		}
	}
	if _, err := b.Delete(t.Context(), []string{"../../main/identity.json"}); !fault.Is(err, fault.Usage) {
		t.Errorf("%v", err)
	}
	// A directory that was pruned comes back.
	b.archive(t, far)
}

// Fault 0 of the reference: 256 deletions in one directory take the rest along.
func TestDeleteOf256FilesLeavesTheOthersOfTheirDirectory(t *testing.T) {
	b := newBench(t, "", mib)
	dir := filepath.Dir(b.Path(seg1))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	var del, stay []string
	for i := range 300 {
		files := []string{fmt.Sprintf("0000000100000000%08X", i)}
		if i%15 == 0 {
			files = append(files, files[0]+".00000028.backup")
		}
		for _, name := range files {
			if err := os.WriteFile(filepath.Join(dir, name), []byte("x"), 0o600); err != nil {
				t.Fatal(err)
			}
			if len(del) < 256 {
				del = append(del, name)
			} else {
				stay = append(stay, name)
			}
		}
	}
	if n, err := b.Rebuild(t.Context()); err != nil || n[wal.SegmentFile]+n[wal.LabelFile] != 320 {
		t.Fatalf("%v, %v", n, err)
	}
	if n, err := b.Delete(t.Context(), del); err != nil || n != 256 {
		t.Errorf("%d, %v", n, err)
	}
	want := strings.Join(stay, " ")
	if got := names(t, dir); got != want {
		t.Errorf("%s\nleft, not\n%s", got, want)
	}
	if got := strings.Join(b.lines(t), " "); got != want {
		t.Errorf("%s\nlisted, not\n%s", got, want)
	}
}

// What a killed deletion has unlisted and not removed is not forgotten.
func TestNamesKnowsWhatIsNotListed(t *testing.T) {
	b := newBench(t, "", mib)
	b.archive(t, seg1, seg2, "00000002.history")
	if err := os.WriteFile(b.Path(seg3), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(b.Path(seg2)); err != nil {
		t.Fatal(err)
	}
	got, err := b.Names(t.Context())
	if want := strings.Join([]string{seg1, seg2, seg3, "00000002.history"}, " "); err != nil || strings.Join(got, " ") != want {
		t.Errorf("%v, %v", got, err)
	}
}
