package walarchive_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/wal"
	"github.com/holdfast-pg/holdfast/internal/walarchive"
)

// The sample was written by Barman 3.20.1.
func TestXlogDBSampleSurvivesUnchanged(t *testing.T) {
	want, err := os.ReadFile("testdata/loc-xlog.db")
	if err != nil {
		t.Fatal(err)
	}
	var got strings.Builder
	if err := walarchive.ReadXlogDB(bytes.NewReader(want), "sample", func(e walarchive.Entry) error {
		got.WriteString(e.String() + "\n")
		return nil
	}); err != nil || got.String() != string(want) {
		t.Errorf("%v\n%s", err, got.String())
	}
}

func TestParseEntry(t *testing.T) {
	for line, want := range map[string]string{
		seg1 + "\t16777216\t1795401308.5":            seg1 + "\t16777216\t1795401308.5\tNone\tNone",
		seg1 + "\t16777216\t1795401308.5\tgzip":      seg1 + "\t16777216\t1795401308.5\tgzip\tNone",
		seg1 + "\t16777216\t1795401308.5\tNone\tgpg": seg1 + "\t16777216\t1795401308.5\tNone\tgpg",
		seg1 + "\t16777216\t1795401308":              seg1 + "\t16777216\t1795401308.0\tNone\tNone",
		seg1 + "\t16777216":                          "",
		seg1 + "\t1\t2\t3\t4\t5":                     "",
		seg1 + "\tx\t2":                              "",
		seg1 + "\t1\tnan":                            "",
		"../x\t1\t2":                                 "",
		"":                                           "",
		"\t1\t2":                                     "",
		seg1 + " 16777216 1795401308.5":              "",
		seg1 + "\t-1\t1795401308.5":                  "",
		seg1 + "\t1\t99999999999999999999999999999\tx\tNone": "",
	} {
		e, err := walarchive.ParseEntry(line)
		if want == "" && err == nil || want != "" && (err != nil || e.String() != want) {
			t.Errorf("%q: %q, %v", line, e.String(), err)
		}
	}
}

func TestATornLineIsReplaced(t *testing.T) {
	b := newBench(t, "", mib)
	b.archive(t, seg1)
	f, err := os.OpenFile(b.l.XlogDB(), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(seg2 + "\t1048"); err != nil {
		t.Fatal(err)
	}
	f.Close()
	b.archive(t, seg2, seg3)
	if got := strings.Join(b.lines(t), " "); got != seg1+" "+seg2+" "+seg3 {
		t.Error(got)
	}
}

func TestABadLineIsNamed(t *testing.T) {
	b := newBench(t, "", mib)
	b.archive(t, seg1)
	f, err := os.OpenFile(b.l.XlogDB(), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString("rubbish\n"); err != nil {
		t.Fatal(err)
	}
	f.Close()
	err = b.Each(t.Context(), func(walarchive.Entry) error { return nil })
	if !fault.Is(err, fault.Corrupt) || !strings.Contains(err.Error(), "main-xlog.db: line 2") || fault.HintOf(err) == "" {
		t.Errorf("%v", err)
	}
	if _, err := b.Delete(t.Context(), []string{seg1}); !fault.Is(err, fault.Corrupt) {
		t.Errorf("%v", err)
	}
	if _, err := os.Stat(b.Path(seg1)); err != nil {
		t.Error("a file was deleted that is still listed")
	}
	// Rebuild repairs it, and what a kill kept from being listed.
	b.write(t, seg2, segment(t, seg2, mib, "x"))
	if err := os.Rename(filepath.Join(b.src, seg2), b.Path(seg2)); err != nil {
		t.Fatal(err)
	}
	b.write(t, "junk", nil)
	if err := os.Rename(filepath.Join(b.src, "junk"), filepath.Join(filepath.Dir(b.Path(seg2)), "junk")); err != nil {
		t.Fatal(err)
	}
	if n, err := b.Rebuild(t.Context()); err != nil || n[wal.SegmentFile] != 2 || len(n) != 1 {
		t.Errorf("%v, %v", n, err)
	}
	if got := strings.Join(b.lines(t), " "); got != seg1+" "+seg2 {
		t.Error(got)
	}
}

func FuzzParseEntry(f *testing.F) {
	f.Add(seg1 + "\t16537\t1795401308.1984093\tgzip\tNone")
	f.Add(seg1 + "\t16537\t1e-05")
	f.Fuzz(func(t *testing.T, line string) {
		e, err := walarchive.ParseEntry(line)
		if err != nil {
			return
		}
		_ = e.Modified()
		again, err := walarchive.ParseEntry(e.String())
		if err != nil || again != e {
			t.Errorf("%q became %q: %v", line, e.String(), err)
		}
	})
}
