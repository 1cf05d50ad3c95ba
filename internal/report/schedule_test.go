package report_test

import (
	"testing"
	"time"

	"github.com/holdfast-pg/holdfast/internal/report"
	"github.com/holdfast-pg/holdfast/internal/schedule"
)

func TestScheduleLine(t *testing.T) {
	now := time.Date(2026, 3, 5, 12, 0, 0, 0, time.UTC)
	due := func(day int) time.Time { return time.Date(2026, 3, day, 2, 0, 0, 0, time.UTC) }
	daily := schedule.Stored{Spec: "0 2 * * *", Since: due(1)}
	paused := schedule.Stored{Spec: "0 2 * * *", Since: due(1), Paused: true, Note: "moving house"}
	for _, tc := range []struct {
		stored schedule.Stored
		last   *schedule.Run
		want   string
	}{
		{schedule.Stored{Spec: "0 2 * * *", Since: now}, nil, "0 2 * * *; next Fri 2026-03-06 02:00:00 UTC; no run yet"},
		{daily, &schedule.Run{Due: due(5), Outcome: schedule.Done, Backup: "20260305T020001"},
			"0 2 * * *; next Fri 2026-03-06 02:00:00 UTC; latest Thu 2026-03-05 02:00:00 UTC: done (20260305T020001)"},
		{daily, &schedule.Run{Due: due(4), Outcome: schedule.Skipped, Reason: "another backup of this server was running"},
			"0 2 * * *; next Fri 2026-03-06 02:00:00 UTC; latest Wed 2026-03-04 02:00:00 UTC: skipped, another backup of this server was running; " +
				"the run due Thu 2026-03-05 02:00:00 UTC has not begun: is holdfast up running?"},
		{paused, nil, "0 2 * * *; paused: moving house; no run yet"},
	} {
		r, err := report.NewSchedule(tc.stored, tc.last, now, time.UTC)
		if err != nil || r.String() != tc.want {
			t.Errorf("%+v:\ngot  %s\nwant %s\n%v", tc.stored, r, tc.want, err)
		}
	}
	if _, err := report.NewSchedule(schedule.Stored{Spec: "soon"}, nil, now, time.UTC); err == nil {
		t.Error("a damaged schedule was accepted")
	}
}
