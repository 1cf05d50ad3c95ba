package report_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-pg/holdfast/internal/backup"
	"github.com/holdfast-pg/holdfast/internal/backupinfo"
	"github.com/holdfast-pg/holdfast/internal/report"
	"github.com/holdfast-pg/holdfast/internal/window"
)

func TestStatusTellsWhatCanBeRestored(t *testing.T) {
	at := time.Date(2026, 3, 1, 2, 0, 0, 0, time.UTC)
	hole := window.Span{First: "000000010000000000000005", Last: "000000010000000000000006", Count: 2}
	late := window.Span{First: "00000002000000000000000C", Last: "00000002000000000000000C", Count: 1}
	st := report.Status{Now: at, Zone: time.UTC,
		Backups: []*backupinfo.Info{{ID: "20260301T010000", Status: backup.Done}, {ID: "20260302T010000", Status: backup.WaitingForWALs}, {ID: "20260303T010000", Status: backup.WaitingForWALs}},
		Window: &window.Result{
			Timelines: []window.Timeline{
				{TLI: 1, Ranges: []window.Range{{From: 0x1000028, To: 0x5000000, FromTime: at, ToTime: at.Add(time.Hour), First: "20260301T010000", Backups: 1, Last: "000000010000000000000004"}}, Gaps: []window.Span{hole}},
				{TLI: 2, Gaps: []window.Span{hole}}, {TLI: 3, NoHistory: true},
			},
			Lacking: []window.Lacking{{ID: "20260302T010000", Status: backup.WaitingForWALs, Missing: []window.Span{late}}, {ID: "20260228T010000", Status: backup.Done, Reason: "its parent is gone"}},
		}}
	object := map[string]any{}
	var text []string
	for _, r := range st.Rows() {
		object[r.Key] = r.JSON()
		text = append(text, r.String())
	}
	got := strings.Join(text[len(text)-4:], "\n")
	want := `Recoverable window: timeline 3: unknown, its history file is not archived
		timeline 1: Sun 2026-03-01 02:00:00 UTC (0/1000028) to Sun 2026-03-01 03:00:00 UTC (0/5000000), from backup 20260301T010000
WAL gaps: 000000010000000000000005 to 000000010000000000000006 (2 segments)
Backups that wait for WAL: 2
		20260302T010000 waits for 00000002000000000000000C
		20260303T010000 has all of its WAL and is yet to be proven: holdfast cron does it
Backups that cannot be restored: 20260228T010000: its parent is gone`
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	data, err := json.Marshal(object["recoverable_window"])
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{`"message":"timeline 3`, `"lacking":[{"backup_id":"20260302T010000","missing":[{"count":1,"first":"00000002000000000000000C","last":"00000002000000000000000C"}]`,
		`{"gaps":[{"count":2,"first":"000000010000000000000005","last":"000000010000000000000006"}],"history_missing":false,"ranges":[{"backups":1,"from_backup":"20260301T010000","from_lsn":"0/1000028","from_time":"2026-03-01T02:00:00Z"`} {
		if !strings.Contains(string(data), part) {
			t.Errorf("no %s in\n%s", part, data)
		}
	}
}

func TestLongListsAreCut(t *testing.T) {
	spans := make([]window.Span, 7)
	for i := range spans {
		spans[i] = window.Span{First: "x", Count: 1}
	}
	if got := report.Spans(spans); got != "x, x, x, x, x, and 2 more holes" {
		t.Error(got)
	}
	list := []string{"1", "2", "3", "4", "5", "6", "7"}
	if got := report.Some(list, " "); got != "1 2 3 4 5 and 2 more" || list[5] != "6" {
		t.Error(got, list)
	}
}
