package postgres

import "time"

// Archiver is what pg_stat_archiver says, and where the server writes.
type Archiver struct {
	CurrentWAL string // "" on a standby
	Archived   int64
	Failed     int64
	LastWAL    string
	LastAt     time.Time // zero when nothing was archived
	LastFailed string
	FailedAt   time.Time // zero when nothing failed
	Since      time.Time // of the counters
}

// Failing reports whether the last try to archive was one that failed.
func (a Archiver) Failing() bool { return a.FailedAt.After(a.LastAt) }

// PerHour is how many files the server archives in an hour.
func (a Archiver) PerHour(now time.Time) float64 {
	hours := now.Sub(a.Since).Hours()
	if hours <= 0 || a.Since.IsZero() {
		return 0
	}
	return float64(a.Archived) / hours
}
