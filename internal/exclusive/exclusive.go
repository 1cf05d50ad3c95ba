// Package exclusive knows whose exclusive backup a PostgreSQL server is in, and
// ends one that nobody works for any more. The server is in that mode by itself
// (until version 14), so whoever started it may be gone. A backup is ours when
// the ID in its label is one that we have recorded, which happens before it
// starts; no other is ever touched. It starts no backup.
package exclusive

import (
	"context"
	"strings"

	"github.com/holdfast-pg/holdfast/internal/backup"
	"github.com/holdfast-pg/holdfast/internal/backuplabel"
	"github.com/holdfast-pg/holdfast/internal/catalog"
	"github.com/holdfast-pg/holdfast/internal/keeper"
	"github.com/holdfast-pg/holdfast/internal/postgres"
)

// Server is a PostgreSQL server that may be in backup mode.
type Server interface {
	// ExclusiveLabel is the text of backup_label; "" when the server is in no
	// exclusive backup.
	ExclusiveLabel(ctx context.Context) (string, error)
	// StopExclusive ends the backup under a label, and no other.
	StopExclusive(ctx context.Context, label string) (postgres.Stop, error)
}

// Backup is the exclusive backup that a server is in.
type Backup struct {
	Label string
	ID    backup.ID    // "" when it is not ours
	Owner keeper.Owner // who works for it
}

// Label is the one under which a backup is started; it is Barman's.
func Label(server string, id backup.ID) string { return "Barman backup " + server + " " + string(id) }

// Find asks which exclusive backup a server is in; nil for none.
func Find(ctx context.Context, s Server, cat *catalog.Catalog) (*Backup, error) {
	text, err := s.ExclusiveLabel(ctx)
	if err != nil || text == "" {
		return nil, err
	}
	label, err := backuplabel.Parse(text)
	if err != nil {
		return nil, err
	}
	b := &Backup{Label: label.Text}
	id, is := strings.CutPrefix(label.Text, Label(cat.Server, ""))
	if !is {
		return b, nil
	}
	known, err := backup.ParseID(id)
	if err != nil {
		return b, nil
	}
	extra, err := cat.Extra(known)
	if err == nil && extra.RunID != "" {
		b.ID, b.Owner = known, keeper.Owner{WorkflowID: extra.WorkflowID, RunID: extra.RunID}
	}
	return b, err
}
