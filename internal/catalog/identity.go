package catalog

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/holdfast-pg/holdfast/internal/atomicfile"
	"github.com/holdfast-pg/holdfast/internal/fault"
)

// Identity is the cluster that a server's backups are of.
type Identity struct {
	SystemID string `json:"systemid"`
	Version  string `json:"version"` // major
}

// Identity reads identity.json; nil before the first backup.
func (c *Catalog) Identity() (*Identity, error) {
	data, err := os.ReadFile(c.identityPath())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fault.Wrap(fault.Internal, "read", c.identityPath(), err)
	}
	var id Identity
	if err := json.Unmarshal(data, &id); err != nil || id.SystemID == "" {
		return nil, fault.New(fault.Corrupt, "read", c.identityPath(), "it holds no systemid").
			WithHint("compare it with pg_controldata of the server, and repair it by hand")
	}
	return &id, nil
}

// EnsureIdentity writes identity.json once, before the first backup. Later it
// refuses a cluster that is not the one that the backups are of.
func (c *Catalog) EnsureIdentity(now Identity) error {
	have, err := c.Identity()
	if err != nil {
		return err
	}
	if have != nil {
		if have.SystemID != now.SystemID {
			return fault.New(fault.Refused, "check identity of server", c.Server,
				"the server's system identifier is %s, its backups are of %s", now.SystemID, have.SystemID).
				WithHint("the connection leads to another cluster, or the cluster was made anew: configure another server name for it, or move %s away", c.BackupDir)
		}
		return nil
	}
	data, err := json.MarshalIndent(now, "", "    ")
	if err != nil {
		return fault.Wrap(fault.Internal, "encode", c.identityPath(), err)
	}
	return atomicfile.Write(c.identityPath(), append(data, '\n'), 0o644)
}

func (c *Catalog) identityPath() string { return filepath.Join(c.BackupDir, "identity.json") }
