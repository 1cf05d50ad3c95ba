package main

import (
	"testing"
	"time"

	"github.com/holdfast-pg/holdfast/internal/fault"
)

func TestTimesAsPeopleWriteThem(t *testing.T) {
	local := time.FixedZone("local", 2*3600)
	for text, want := range map[string]string{
		"2026-11-23 02:40:00+00":            "2026-11-23T02:40:00Z",
		"2026-11-23 02:40:00.123456+00:00":  "2026-11-23T02:40:00.123456Z",
		"2026-11-23T02:40:00Z":              "2026-11-23T02:40:00Z",
		"2026-11-23 02:40:00 UTC":           "2026-11-23T02:40:00Z",
		"2026-11-23 02:40:00 -0530":         "2026-11-23T08:10:00Z",
		"2026-11-23 02:40 +02:00":           "2026-11-23T00:40:00Z",
		"2026-07-01 12:00:00 Europe/Berlin": "2026-07-01T10:00:00Z",
		" 2026-11-23 02:40:00 ":             "2026-11-23T00:40:00Z",
		"2026-11-23 02:40":                  "2026-11-23T00:40:00Z",
		"2026-11-23":                        "2026-11-22T22:00:00Z",
	} {
		got, zoned, err := parseTime(text, local)
		if err != nil || got.UTC().Format(time.RFC3339Nano) != want {
			t.Errorf("%q: %v, %v", text, got, err)
		}
		if local := got.Location() == local; zoned == local {
			t.Errorf("%q: zoned %t", text, zoned)
		}
	}
	for _, text := range []string{"", "yesterday", "2026-11-23 02:40:00 CET", "2026-13-01", "2026-11-23 02:40:00 No/Where", "02:40:00"} {
		if got, _, err := parseTime(text, local); !fault.Is(err, fault.Usage) {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
}
