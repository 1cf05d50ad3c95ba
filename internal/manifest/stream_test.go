package manifest_test

import (
	"errors"
	"fmt"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/manifest"
)

func TestChecker(t *testing.T) {
	listed := map[string]string{"PG_VERSION": "18\n", "base/1/2": "rows", "empty": "", "pg_tblspc/16384/PG_18/1": "y"}
	algorithms := map[string]manifest.Algorithm{"PG_VERSION": manifest.SHA256, "base/1/2": manifest.CRC32C, "empty": manifest.None, "pg_tblspc/16384/PG_18/1": manifest.SHA512}
	var files []manifest.File
	for name, content := range listed {
		files = append(files, entry(name, content, algorithms[name]))
	}
	text, summary := encode(t, 7, nil, files...)
	path := filepath.Join(t.TempDir(), "backup_manifest")
	write(t, path, text)
	all := [][2]string{{"PG_VERSION", "18\n"}, {"base/1/2", "rows"}, {"empty", ""}, {"pg_tblspc/16384/PG_18/1", "y"}}
	for _, c := range []struct {
		name  string
		files [][2]string
		want  []manifest.Finding
	}{
		{"as listed", all, nil},
		{"missing", all[1:3], []manifest.Finding{{"PG_VERSION", "missing"}, {"pg_tblspc/16384/PG_18/1", "missing"}}},
		{"extra", append([][2]string{{"base/1/3", ""}}, all...), []manifest.Finding{{"base/1/3", "extra"}}},
		{"twice", append([][2]string{{"empty", ""}}, all...), []manifest.Finding{{"empty", "there twice"}}},
		{"longer, though nothing was summed", append([][2]string{{"empty", "x"}}, append(all[:2:2], all[3])...), []manifest.Finding{{"empty", "other content: 1 bytes,  "}}},
		{"other bytes", append([][2]string{{"base/1/2", "Rows"}}, append(all[:1:1], all[2:]...)...), []manifest.Finding{{"base/1/2", "other content: 4 bytes, CRC32C "}}},
	} {
		k, err := manifest.NewChecker(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range c.files {
			// A reader that gives one byte at a time must not matter.
			if err := k.File(f[0], iotest.OneByteReader(strings.NewReader(f[1])), make([]byte, 3)); err != nil {
				t.Fatal(err)
			}
		}
		got, err := k.Report()
		for i := range min(len(got.Findings), len(c.want)) {
			if strings.HasPrefix(got.Findings[i].Reason, c.want[i].Reason) {
				got.Findings[i].Reason = c.want[i].Reason
			}
		}
		if err != nil || !reflect.DeepEqual(got.Findings, c.want) || got.Bad != len(c.want) || got.Summary.SHA256 != summary.SHA256 {
			t.Errorf("%s: %+v, %v", c.name, got, err)
		}
	}
}

func TestCheckerPassesErrorsThrough(t *testing.T) {
	text, _ := encode(t, 7, nil, entry("a", "x", manifest.SHA256))
	path := filepath.Join(t.TempDir(), "backup_manifest")
	write(t, path, text)
	k, err := manifest.NewChecker(path)
	if err != nil {
		t.Fatal(err)
	}
	mine := errors.New("mine")
	if err := k.File("a", iotest.ErrReader(mine), make([]byte, 1)); !errors.Is(err, mine) {
		t.Error(err)
	}
	write(t, path, strings.Replace(text, `"a"`, `"b"`, 1))
	if _, err := manifest.NewChecker(path); !fault.Is(err, fault.Corrupt) {
		t.Errorf("a changed manifest: %v", err)
	}
	if _, err := manifest.NewChecker(path + ".none"); err == nil {
		t.Error("a manifest that is not there was read")
	}
}

// BenchmarkChecker tells how much memory a file takes.
func BenchmarkChecker(b *testing.B) {
	var files []manifest.File
	for n := range 100000 {
		files = append(files, entry(fmt.Sprintf("base/5/%d", n), "", manifest.SHA256))
	}
	text, _ := encode(b, 7, nil, files...)
	path := filepath.Join(b.TempDir(), "backup_manifest")
	write(b, path, text)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := manifest.NewChecker(path); err != nil {
			b.Fatal(err)
		}
	}
}
