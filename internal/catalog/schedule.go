package catalog

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/holdfast-pg/holdfast/internal/atomicfile"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/schedule"
)

func (c *Catalog) schedulePath() string { return filepath.Join(c.MetaDir, "holdfast-schedule.json") }
func (c *Catalog) lastRunPath() string  { return filepath.Join(c.MetaDir, "holdfast-schedule-run.json") }

// Schedule is the server's; nil when it has none. It lies beside the records of
// the backups, so that the loss of the engine's database loses no schedule.
func (c *Catalog) Schedule() (*schedule.Stored, error) {
	return readJSON[schedule.Stored](c.schedulePath())
}

// SaveSchedule replaces the server's schedule.
func (c *Catalog) SaveSchedule(s schedule.Stored) error { return writeJSON(c.schedulePath(), s) }

// RemoveSchedule forgets the server's schedule and its latest run.
func (c *Catalog) RemoveSchedule() error {
	return errors.Join(removeDurably(c.lastRunPath()), removeDurably(c.schedulePath()))
}

// ScheduledRun is the latest run; nil when there was none.
func (c *Catalog) ScheduledRun() (*schedule.Run, error) {
	return readJSON[schedule.Run](c.lastRunPath())
}

// SaveScheduledRun records a run, unless a later one was recorded already.
func (c *Catalog) SaveScheduledRun(r schedule.Run) error {
	last, err := c.ScheduledRun()
	if err != nil || last != nil && last.Due.After(r.Due) {
		return err
	}
	return writeJSON(c.lastRunPath(), r)
}

func readJSON[T any](path string) (*T, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fault.Wrap(fault.Internal, "read", path, err)
	}
	var v T
	if err := json.Unmarshal(data, &v); err != nil {
		return nil, fault.Wrap(fault.Corrupt, "read", path, err)
	}
	return &v, nil
}

func writeJSON(path string, v any) error {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fault.Wrap(fault.Internal, "encode", path, err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fault.Wrap(fault.Internal, "create directory", filepath.Dir(path), err)
	}
	return atomicfile.Write(path, append(data, '\n'), 0o644)
}
