package wal_test

import (
	"encoding/binary"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-pg/holdfast/internal/wal"
)

func TestNames(t *testing.T) {
	for name, want := range map[string]wal.Kind{
		"00000001000000000000000C":                  wal.SegmentFile,
		"00000001000000000000000c":                  wal.SegmentFile,
		"00000001000000000000000C.00000028.backup":  wal.LabelFile,
		"00000001000000000000000C.partial":          wal.PartialFile,
		"00000002.history":                          wal.HistoryFile,
		"":                                          wal.Unknown,
		"0000000G000000000000000C":                  wal.Unknown,
		"00000001000000000000000C.gz":               wal.Unknown,
		"00000001000000000000000C.00000028.backup2": wal.Unknown,
		"../../../../etc/passwd__":                  wal.Unknown,
	} {
		if got := wal.Classify(name); got != want {
			t.Errorf("%q: %d, want %d", name, got, want)
		}
	}
}

func TestSegmentArithmetic(t *testing.T) {
	for _, c := range []struct {
		name string
		size uint64
		next string
		at   string
	}{
		{"00000001000000000000000C", 16 << 20, "00000001000000000000000D", "0/C000000"},
		{"0000000100000000000000FF", 16 << 20, "000000010000000100000000", "0/FF000000"},
		{"000000010000000000000FFF", 1 << 20, "000000010000000100000000", "0/FFF00000"},
		{"000000030000000000000003", 1 << 30, "000000030000000100000000", "0/C0000000"},
	} {
		s, err := wal.ParseSegment(c.name, c.size)
		if err != nil {
			t.Fatal(err)
		}
		if s.Name() != c.name || s.Next().Name() != c.next || s.Start().String() != c.at || s.End() != s.Next().Start() {
			t.Errorf("%s: %s %s %s", c.name, s.Name(), s.Next().Name(), s.Start())
		}
		if wal.SegmentOf(s.TLI, s.Start(), c.size) != s || wal.SegmentOf(s.TLI, s.End()-1, c.size) != s {
			t.Errorf("%s: SegmentOf differs", c.name)
		}
	}
	for _, bad := range []string{"000000010000000000000100", "x", "00000001.history"} {
		if _, err := wal.ParseSegment(bad, 16<<20); err == nil {
			t.Errorf("%s was accepted", bad)
		}
	}
	if _, err := wal.ParseSegment("000000010000000000000001", 3<<20); err == nil {
		t.Error("a size of 3 MiB was accepted")
	}
}

func TestEachSegment(t *testing.T) {
	var got []string
	err := wal.EachSegment("0000000100000000000000FE", "000000010000000100000000", 16<<20, func(n string) error { got = append(got, n); return nil })
	if want := []string{"0000000100000000000000FE", "0000000100000000000000FF", "000000010000000100000000"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("%v, %v", got, err)
	}
	none := func(string) error { t.Error("called"); return nil }
	if wal.EachSegment("000000010000000000000002", "000000020000000000000003", 16<<20, none) == nil ||
		wal.EachSegment("000000010000000000000002", "000000010000000000000001", 16<<20, none) == nil {
		t.Error("an impossible range was accepted")
	}
}

func TestHistory(t *testing.T) {
	h, err := wal.ParseHistory(3, strings.NewReader("1\t0/5000000\tno recovery target specified\n\n# c\n2\t0/7000060\tbefore 2026-01-01\n"))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		tli  uint32
		lsn  string
		want bool
	}{
		{1, "0/4FFFFFF", true}, {1, "0/5000000", false}, {2, "0/5000000", true}, {2, "0/7000060", false}, {2, "0/1", false},
		{3, "0/7000060", true}, {3, "0/7000000", false}, {4, "0/8000000", false},
	} {
		lsn, err := wal.ParseLSN(c.lsn)
		if err != nil {
			t.Fatal(err)
		}
		if got := h.Contains(c.tli, lsn); got != c.want {
			t.Errorf("%d %s: %v", c.tli, c.lsn, got)
		}
	}
	for _, bad := range []string{"x", "1", "1 0", "3 0/1 r", "2 0/1 r\n1 0/2 r", "1 0/5 r\n2 0/4 r"} {
		if _, err := wal.ParseHistory(3, strings.NewReader(bad)); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}

func TestCheckPage(t *testing.T) {
	seg := wal.Segment{TLI: 2, No: 12, Size: 16 << 20}
	page := func(change func([]byte)) []byte {
		b := make([]byte, wal.LongHeaderSize)
		binary.LittleEndian.PutUint16(b, 0xD118)
		binary.LittleEndian.PutUint16(b[2:], 2)
		binary.LittleEndian.PutUint32(b[4:], 2)
		binary.LittleEndian.PutUint64(b[8:], 12<<24)
		binary.LittleEndian.PutUint64(b[24:], 77)
		binary.LittleEndian.PutUint32(b[32:], 16<<20)
		change(b)
		return b
	}
	if err := wal.CheckPage(page(func([]byte) {}), seg, 77); err != nil {
		t.Error(err)
	}
	for name, change := range map[string]func([]byte){
		"magic":   func(b []byte) { b[1] = 0 },
		"header":  func(b []byte) { b[2] = 0 },
		"newer":   func(b []byte) { b[4] = 3 },
		"address": func(b []byte) { b[11] = 9 },
		"size":    func(b []byte) { b[34] = 2 },
		"cluster": func(b []byte) { b[24] = 78 },
	} {
		if wal.CheckPage(page(change), seg, 77) == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if wal.CheckPage(nil, seg, 0) == nil {
		t.Error("an empty file was accepted")
	}
}

func FuzzNames(f *testing.F) {
	f.Add("00000001000000000000000C.00000028.backup", uint64(1<<24))
	f.Add("00000002.history", uint64(1<<20))
	f.Fuzz(func(t *testing.T, name string, size uint64) {
		s, err := wal.ParseSegment(name, size)
		if err == nil && s.Name() != strings.ToUpper(name[:24]) {
			t.Errorf("%q became %q", name, s.Name())
		}
		if wal.Classify(name) != wal.Unknown {
			if _, err := wal.TimelineOf(name); err != nil {
				t.Error(err)
			}
		}
	})
}

func FuzzHistory(f *testing.F) {
	f.Add("1\t0/5000000\tno recovery target specified\n")
	f.Fuzz(func(t *testing.T, text string) {
		if h, err := wal.ParseHistory(9, strings.NewReader(text)); err == nil {
			h.Contains(1, 5)
		}
	})
}
