package keeper

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/holdfast-pg/holdfast/internal/atomicfile"
	"github.com/holdfast-pg/holdfast/internal/command"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/postgres"
)

// Owner is the workflow run that a session works for.
type Owner struct {
	WorkflowID string `json:"workflow_id"`
	RunID      string `json:"run_id"`
	Attempt    int    `json:"attempt"`
}

// Record is what outlives a keeper of one session that it holds.
type Record struct {
	Owner
	Epoch      string    `json:"epoch"`
	Server     string    `json:"server"`
	ActivityID string    `json:"activity_id"` // of the hold
	HoldQueue  string    `json:"hold_queue"`
	CallQueue  string    `json:"call_queue"`
	PID        int       `json:"pid"` // of the keeper, with its start time and boot
	StartTime  uint64    `json:"start_time"`
	Boot       string    `json:"boot"`
	BackendPID uint32    `json:"backend_pid"`
	Begun      time.Time `json:"begun"`
}

// KeeperAlive reports whether the process that holds the session still runs.
func (r Record) KeeperAlive() bool {
	return r.Boot == command.BootID() && command.Running(r.PID, r.StartTime)
}

// Dir is where a state directory keeps the records of sessions.
func Dir(stateDir string) string { return filepath.Join(stateDir, "keeper") }

const (
	recordSuffix = ".session.json"
	stopSuffix   = ".stop.json"
)

// stopsKeptFor outlasts every backup that could still ask for its stop.
const stopsKeptFor = 30 * 24 * time.Hour

// Records lists the sessions of all keepers of a state directory, also of dead ones.
func Records(stateDir string) ([]Record, error) {
	entries, err := os.ReadDir(Dir(stateDir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fault.Wrap(fault.Internal, "list session records", Dir(stateDir), err)
	}
	var out []Record
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), recordSuffix) {
			continue
		}
		var r Record
		switch found, err := readJSON(filepath.Join(Dir(stateDir), e.Name()), &r); {
		case err != nil:
			return nil, err
		case found:
			out = append(out, r)
		}
	}
	return out, nil
}

// Forget removes the record of a session.
func Forget(stateDir, epoch string) error {
	err := os.Remove(filepath.Join(Dir(stateDir), epoch+recordSuffix))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return fault.Wrap(fault.Internal, "remove session record", epoch, err)
}

// LookupStop returns the result of a stop that some keeper has stored, or nil.
func LookupStop(stateDir, epoch string) (*postgres.Stop, error) {
	var s postgres.Stop
	found, err := readJSON(filepath.Join(Dir(stateDir), epoch+stopSuffix), &s)
	if err != nil || !found {
		return nil, err
	}
	return &s, nil
}

func (r *Registry) writeRecord(rec Record) error {
	return writeJSON(filepath.Join(Dir(r.stateDir), rec.Epoch+recordSuffix), rec)
}

func (r *Registry) writeStop(epoch string, s postgres.Stop) error {
	return writeJSON(filepath.Join(Dir(r.stateDir), epoch+stopSuffix), s)
}

// removeOldStops drops results that nobody can ask for any more.
func removeOldStops(stateDir string, now time.Time) error {
	entries, err := os.ReadDir(Dir(stateDir))
	if err != nil {
		return fault.Wrap(fault.Internal, "list stop records", Dir(stateDir), err)
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || !strings.HasSuffix(e.Name(), stopSuffix) || now.Sub(info.ModTime()) < stopsKeptFor {
			continue
		}
		if err := os.Remove(filepath.Join(Dir(stateDir), e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fault.Wrap(fault.Internal, "remove stop record", e.Name(), err)
		}
	}
	return nil
}

func readJSON(path string, into any) (found bool, err error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err == nil {
		err = json.Unmarshal(data, into)
	}
	return err == nil, fault.Wrap(fault.Corrupt, "read", path, err)
}

func writeJSON(path string, v any) error {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fault.Wrap(fault.Internal, "encode", path, err)
	}
	return atomicfile.Write(path, append(data, '\n'), 0o600)
}
