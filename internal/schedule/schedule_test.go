package schedule_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/schedule"
)

func TestParse(t *testing.T) {
	for text, want := range map[string]string{
		"0 2 * * *":            "0 2 * * *",
		" 0  2 * * * ":         "0 2 * * *",
		"@daily":               "@daily",
		"every 6h":             "every 6h",
		"@every 90m":           "every 1h30m",
		"*/5 0-3 1,15 JAN MON": "*/5 0-3 1,15 JAN MON",
		"0 2 * * * jitter 10m timezone Europe/Berlin":   "0 2 * * * jitter 10m timezone Europe/Berlin",
		"0 2 * * * TIMEZONE America/New_York jitter 1s": "0 2 * * * jitter 1s timezone America/New_York",
		"every 1s jitter 0s":                            "every 1s",
	} {
		s, err := schedule.Parse(text)
		if err != nil || s.String() != want {
			t.Errorf("%q: %q, %v", text, s, err)
			continue
		}
		if again, err := schedule.Parse(s.String()); err != nil || again != s {
			t.Errorf("%q: read again: %+v, %v", text, again, err)
		}
	}
	for text, want := range map[string]string{
		"":                            "0 fields",
		"0 4 * *":                     "4 fields",
		"0 4 * * * *":                 "6 fields",
		"0 4 * * $(x)":                "not understood",
		"0 0 31 2 *":                  "no date",
		"61 4 * * *":                  "not understood",
		"@reboot":                     "not understood",
		"CRON_TZ=UTC 4 * * *":         "not understood",
		"every 0s":                    "interval",
		"every day":                   "interval",
		"every 6h timezone UTC":       "no time zone",
		"0 4 * * * jitter soon":       "jitter",
		"0 4 * * * jitter -1m":        "jitter",
		"0 4 * * * timezone Mars/Sea": "Mars/Sea",
		"0 4 * * * timezone Local":    "Local",
	} {
		_, err := schedule.Parse(text)
		if !fault.Is(err, fault.Usage) || !strings.Contains(err.Error(), want) || fault.HintOf(err) == "" {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func at(t *testing.T, text string) time.Time {
	t.Helper()
	when, err := time.Parse("2006-01-02 15:04:05", text)
	if err != nil {
		t.Fatal(err)
	}
	return when
}

func TestDueTimes(t *testing.T) {
	for _, tc := range []struct{ text, now, last, next string }{
		{"0 2 * * *", "2026-03-01 12:00:00", "2026-03-01 02:00:00", "2026-03-02 02:00:00"},
		{"0 2 * * *", "2026-03-01 02:00:00", "2026-03-01 02:00:00", "2026-03-02 02:00:00"},
		{"0 2 * * * timezone Europe/Berlin", "2026-03-01 12:00:00", "2026-03-01 01:00:00", "2026-03-02 01:00:00"},
		{"0 2 * * * timezone Europe/Berlin", "2026-07-01 12:00:00", "2026-07-01 00:00:00", "2026-07-02 00:00:00"},
		{"0 0 29 2 *", "2026-03-01 12:00:00", "2024-02-29 00:00:00", "2028-02-29 00:00:00"},
		// Either field for the day, as cron has it.
		{"0 0 13 * FRI", "2026-11-12 12:00:00", "2026-11-06 00:00:00", "2026-11-13 00:00:00"},
		{"0 0 14 * FRI", "2026-11-13 12:00:00", "2026-11-13 00:00:00", "2026-11-14 00:00:00"},
		{"every 6h", "2026-03-01 12:00:01", "2026-03-01 12:00:00", "2026-03-01 18:00:00"},
		{"every 6h", "2026-03-01 12:00:00", "2026-03-01 12:00:00", "2026-03-01 18:00:00"},
		{"every 7s", "1970-01-01 00:00:15", "1970-01-01 00:00:14", "1970-01-01 00:00:21"},
	} {
		s, err := schedule.Parse(tc.text)
		if err != nil {
			t.Fatal(err)
		}
		now := at(t, tc.now)
		long := now.AddDate(-10, 0, 0)
		if got := s.Last(long, now); !got.Equal(at(t, tc.last)) {
			t.Errorf("%s: last before %s: %s", tc.text, tc.now, got)
		}
		if got := s.Next(now); !got.Equal(at(t, tc.next)) {
			t.Errorf("%s: next after %s: %s", tc.text, tc.now, got)
		}
		if got := s.Last(time.Time{}, now); !got.Equal(at(t, tc.last)) {
			t.Errorf("%s: last ever before %s: %s", tc.text, tc.now, got)
		}
		if got := s.Last(at(t, tc.last).Add(time.Second), now); !got.IsZero() {
			t.Errorf("%s: %s was due before the schedule began", tc.text, got)
		}
		if got := s.Last(at(t, tc.last), now); got.IsZero() {
			t.Errorf("%s: nothing was due at the second in which the schedule began", tc.text)
		}
	}
}

func TestMissed(t *testing.T) {
	s, err := schedule.Parse("0 2 * * * jitter 5m")
	if err != nil {
		t.Fatal(err)
	}
	created := at(t, "2026-03-01 12:00:00")
	for _, tc := range []struct{ last, now, want string }{
		{"0001-01-01 00:00:00", "2026-03-02 01:00:00", "0001-01-01 00:00:00"}, // none was due yet
		{"0001-01-01 00:00:00", "2026-03-02 02:14:00", "0001-01-01 00:00:00"}, // it may still come
		{"0001-01-01 00:00:00", "2026-03-02 02:15:00", "2026-03-02 02:00:00"},
		{"2026-03-02 02:00:00", "2026-03-02 02:15:00", "0001-01-01 00:00:00"},
		{"2026-03-02 02:00:00", "2026-03-05 12:00:00", "2026-03-05 02:00:00"},
		{"2026-03-05 07:00:00", "2026-03-05 12:00:00", "0001-01-01 00:00:00"}, // triggered by hand
	} {
		if got := s.Missed(created, at(t, tc.last), at(t, tc.now)); !got.Equal(at(t, tc.want)) {
			t.Errorf("last %s, now %s: %s", tc.last, tc.now, got)
		}
	}
}

func TestCronsSayWhatCronMeans(t *testing.T) {
	for text, want := range map[string][]string{
		"0 2 * * *":       {"0 2 * * *"},
		"0 2 13 * FRI":    {"0 2 13 * *", "0 2 * * FRI"},
		"0 2 */2 * FRI":   {"0 2 */2 * FRI"},
		"@weekly":         {"@weekly"},
		"0 2 1 * */2":     {"0 2 1 * */2"},
		"0 2 1-7 1 1,SAT": {"0 2 1-7 1 *", "0 2 * 1 1,SAT"},
	} {
		s, err := schedule.Parse(text)
		if err != nil || !slices.Equal(s.Crons(), want) {
			t.Errorf("%s: %q, %v", text, s.Crons(), err)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, text := range []string{"0 2 * * *", "every 6h jitter 1m", "@daily timezone UTC"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, err := schedule.Parse(text)
		if err != nil {
			return
		}
		again, err := schedule.Parse(s.String())
		if err != nil || again != s {
			t.Errorf("%q is written as %q, which is read as %+v, %v", text, s, again, err)
		}
	})
}
