package backuplabel_test

import (
	"testing"

	"github.com/holdfast-pg/holdfast/internal/backuplabel"
)

const sample = "START WAL LOCATION: 0/29000028 (file 000000010000000000000029)\nCHECKPOINT LOCATION: 0/29000080\nBACKUP METHOD: streamed\nBACKUP FROM: primary\nSTART TIME: 2026-11-23 02:55:55 UTC\nLABEL: it's a: label\nSTART TIMELINE: 1\nINCREMENTAL FROM LSN: 0/27000028\nINCREMENTAL FROM TLI: 1\n"

func TestParse(t *testing.T) {
	l, err := backuplabel.Parse(sample)
	if err != nil {
		t.Fatal(err)
	}
	want := backuplabel.Label{StartLSN: 0x29000028, StartWAL: "000000010000000000000029", CheckpointLSN: 0x29000080, Method: "streamed", From: "primary",
		StartTime: "2026-11-23 02:55:55 UTC", Text: "it's a: label", Timeline: 1, IncrementalFromLSN: 0x27000028, IncrementalFromTLI: 1}
	if l != want {
		t.Errorf("got %+v", l)
	}
	for _, bad := range []string{"", "START WAL LOCATION: x\n", "START WAL LOCATION: 0/1 (file 01)\n", sample + "START TIMELINE: -1\n"} {
		if _, err := backuplabel.Parse(bad); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(sample)
	f.Fuzz(func(t *testing.T, s string) {
		if l, err := backuplabel.Parse(s); err == nil && len(l.StartWAL) != 24 {
			t.Errorf("%q: %+v", s, l)
		}
	})
}
