package schedule

import (
	"time"

	"github.com/holdfast-pg/holdfast/internal/backup"
)

// Stored is a server's schedule as it is kept with the backups.
type Stored struct {
	Spec       string    `json:"schedule"`             // as Parse reads it
	Configured bool      `json:"configured,omitempty"` // it comes from holdfast_backup_schedule
	Paused     bool      `json:"paused,omitempty"`
	Note       string    `json:"note,omitempty"` // why it was paused or resumed
	Since      time.Time `json:"since"`          // what was due before was not asked for
}

// Outcome is what became of a run that was due.
type Outcome string

// What becomes of runs that are due.
const (
	Started Outcome = "started"
	Skipped Outcome = "skipped" // another backup was running
	Done    Outcome = "done"
	Failed  Outcome = "failed"
)

// Run is one run of a schedule.
type Run struct {
	Due     time.Time `json:"due"`
	Began   time.Time `json:"began"`
	Outcome Outcome   `json:"outcome"`
	Backup  backup.ID `json:"backup_id,omitempty"`
	Reason  string    `json:"reason,omitempty"` // why it was skipped or failed
}
