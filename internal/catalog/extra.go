package catalog

import (
	"encoding/json"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"time"

	"github.com/holdfast-pg/holdfast/internal/atomicfile"
	"github.com/holdfast-pg/holdfast/internal/backup"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/snapshot"
)

// ExtraVersion is the version of Extra that is written.
const ExtraVersion = 1

// Extra is what only we know of a backup. It lies beside backup.info, to which
// no key may be added.
type Extra struct {
	Version       int              `json:"version"`
	WorkflowID    string           `json:"workflow_id,omitempty"`
	RunID         string           `json:"run_id,omitempty"`
	Method        string           `json:"method,omitempty"`
	Attempts      []Attempt        `json:"attempts,omitempty"`
	FirstError    string           `json:"first_error,omitempty"` // what made the backup fail
	Hint          string           `json:"hint,omitempty"`        // what to do about that
	Proof         *Proof           `json:"proof,omitempty"`
	TablespaceMap string           `json:"tablespace_map,omitempty"` // the server's, relative to the backup's directory
	Sent          int64            `json:"sent,omitempty"`           // bytes, of what is in an object store; it had or copied the rest
	BadPages      []string         `json:"bad_pages,omitempty"`      // files and blocks whose checksum was wrong, and which were backed up as they are
	RestorePoint  string           `json:"restore_point,omitempty"`  // in the WAL behind the backup
	Snapshots     *snapshot.Record `json:"snapshots_info,omitempty"` // of a backup that consists of them

	unknown map[string]json.RawMessage // of a later version; kept
}

// Attempt is one PostgreSQL session that tried to make the backup.
type Attempt struct {
	Number int       `json:"number"`
	Epoch  string    `json:"epoch,omitempty"`
	Begun  time.Time `json:"begun"`
	Error  string    `json:"error,omitempty"` // why it ended; empty for the last one of a good backup
}

// Proof is what was read back before the backup was called DONE.
type Proof struct {
	At             time.Time `json:"at"`
	Files          int64     `json:"files"`
	Objects        int64     `json:"objects,omitempty"`
	Bytes          int64     `json:"bytes"`
	ManifestSHA256 string    `json:"manifest_sha256"`
	Snapshots      int       `json:"snapshots,omitempty"` // that were complete
	Unread         bool      `json:"unread,omitempty"`    // and whose files could not be read
	WALFrom        string    `json:"wal_from"`
	WALTo          string    `json:"wal_to"`
}

type extraFields Extra

// UnmarshalJSON keeps the fields that this version does not know.
func (e *Extra) UnmarshalJSON(data []byte) error {
	var f extraFields
	if err := json.Unmarshal(data, &f); err != nil {
		return err
	}
	all, err := object(data)
	if err != nil {
		return err
	}
	for _, key := range knownFields() {
		delete(all, key)
	}
	f.unknown = all
	*e = Extra(f)
	return nil
}

// MarshalJSON writes unknown fields back.
func (e Extra) MarshalJSON() ([]byte, error) {
	e.Version = max(e.Version, ExtraVersion)
	data, err := json.Marshal(extraFields(e))
	if err != nil || len(e.unknown) == 0 {
		return data, err
	}
	all, err := object(data)
	if err != nil {
		return nil, err
	}
	maps.Copy(all, e.unknown)
	return json.Marshal(all)
}

func object(data []byte) (map[string]json.RawMessage, error) {
	all := map[string]json.RawMessage{}
	return all, json.Unmarshal(data, &all)
}

// knownFields are the keys of an Extra.
func knownFields() []string {
	var out []string
	for _, f := range reflect.VisibleFields(reflect.TypeFor[extraFields]()) {
		if name, _, _ := strings.Cut(f.Tag.Get("json"), ","); name != "" {
			out = append(out, name)
		}
	}
	return out
}

func (c *Catalog) extraPath(id backup.ID) string {
	return filepath.Join(c.MetaDir, string(id)+"-holdfast.json")
}

// Extra reads what we know of a backup; for a backup of Barman it is empty.
func (c *Catalog) Extra(id backup.ID) (*Extra, error) {
	if _, err := backup.ParseID(string(id)); err != nil {
		return nil, err
	}
	data, err := os.ReadFile(c.extraPath(id))
	if errors.Is(err, fs.ErrNotExist) {
		return &Extra{Version: ExtraVersion}, nil
	}
	e := &Extra{}
	if err == nil {
		err = json.Unmarshal(data, e)
	}
	if err != nil {
		return nil, fault.Wrap(fault.Corrupt, "read", c.extraPath(id), err)
	}
	return e, nil
}

// SaveExtra replaces what we know of a backup.
func (c *Catalog) SaveExtra(id backup.ID, e *Extra) error {
	if _, err := backup.ParseID(string(id)); err != nil {
		return err
	}
	data, err := json.MarshalIndent(e, "", "  ")
	if err != nil {
		return fault.Wrap(fault.Internal, "encode", c.extraPath(id), err)
	}
	return atomicfile.Write(c.extraPath(id), append(data, '\n'), 0o644)
}
