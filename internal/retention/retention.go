package retention

import (
	"cmp"
	"slices"
	"time"

	"github.com/holdfast-pg/holdfast/internal/backup"
	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/internal/wal"
)

// Word is what Barman calls a backup's standing under a policy.
type Word string

// The words of Barman.
const (
	Valid          Word = "VALID"
	Obsolete       Word = "OBSOLETE"
	Potentially    Word = "OBSOLETE*" // obsolete but for minimum_redundancy
	KeepFull       Word = "KEEP:FULL"
	KeepStandalone Word = "KEEP:STANDALONE"
	None           Word = "-"
)

// Backup is what retention must know of a backup.
type Backup struct {
	ID          backup.ID
	Status      backup.Status
	Parent      backup.ID // "" for a full one
	SystemID    string    // "" unknown
	Timeline    uint32    // 0 unknown
	Begin, End  wal.LSN   // 0 unknown
	SegmentSize uint64    // 0 unknown
	EndTime     time.Time // zero unknown

	Keep      Word   // KeepFull, KeepStandalone or ""
	Deleting  bool   // its deletion has begun
	Orphan    bool   // its files are missing
	Snapshots bool   // it consists of disk snapshots that only Barman can delete
	InUse     string // who reads or writes it; "" nobody
}

// begun reports whether it is known where the WAL of the backup begins.
func (b Backup) begun() bool { return b.Timeline != 0 && b.Begin != 0 }

// counts reports whether the backup is a copy that redundancy may rest on.
func (b Backup) counts() bool {
	return b.Status == backup.Done && b.Parent == "" && !b.Orphan && !b.Deleting
}

// complete reports whether all files of the backup are there.
func (b Backup) complete() bool { return b.Status.CopyDone() && !b.Orphan && !b.Deleting }

// Policy is what the configuration asks for.
type Policy struct {
	config.Retention
	Minimum int  // minimum_redundancy
	WORM    bool // the WAL archive may not be changed
}

// Input is what is decided on.
type Input struct {
	Server    string
	Backups   []Backup
	Policy    Policy
	Now       time.Time
	Names     []string // the archive's files
	Histories map[uint32]wal.History
}

// Decision is what happens to a backup, and why.
type Decision struct {
	ID     backup.ID
	Status backup.Status
	Word   Word
	Delete bool
	Reason string
}

// File is what happens to a file of the archive, and why.
type File struct {
	Name   string
	Delete bool
	Reason string
}

// Plan is what happens to the backups and the WAL of a server.
type Plan struct {
	Policy   string      // "" for none
	Backups  []Decision  // newest first
	Doomed   []backup.ID // the backups to delete, in this order: none before what depends on it
	Files    []File      // by name; empty when none is deleted
	NoPurge  string      // why no file is deleted; "" when files were judged
	Warnings []string
}

// Purge lists the files to delete.
func (p *Plan) Purge() []string {
	var out []string
	for _, f := range p.Files {
		if f.Delete {
			out = append(out, f.Name)
		}
	}
	return out
}

// catalogue is the backups by ID and by chain.
type catalogue struct {
	all      []Backup          // newest first
	at       map[backup.ID]int // the place in all
	children map[backup.ID][]backup.ID
}

func sorted(backups []Backup) catalogue {
	c := catalogue{slices.Clone(backups), make(map[backup.ID]int, len(backups)), map[backup.ID][]backup.ID{}}
	slices.SortFunc(c.all, func(a, b Backup) int { return cmp.Compare(b.ID, a.ID) })
	for i, b := range c.all {
		c.at[b.ID] = i
		if b.Parent != "" {
			c.children[b.Parent] = append(c.children[b.Parent], b.ID)
		}
	}
	return c
}

// find is the backup of an ID; false when there is none.
func (c catalogue) find(id backup.ID) (Backup, bool) {
	at, ok := c.at[id]
	if !ok {
		return Backup{}, false
	}
	return c.all[at], true
}

// root is the full backup that b depends on; false when the chain is broken.
func (c catalogue) root(b Backup) (Backup, bool) {
	for range len(c.all) {
		if b.Parent == "" {
			return b, true
		}
		parent, ok := c.find(b.Parent)
		// A parent is older; anything else is a mistake that would never end.
		if !ok || parent.ID >= b.ID {
			return Backup{}, false
		}
		b = parent
	}
	return Backup{}, false
}

// descendants are the backups that depend on id, in an order in which they can
// be deleted.
func (c catalogue) descendants(id backup.ID) []backup.ID {
	seen := map[backup.ID]bool{id: true}
	var out []backup.ID
	for todo := []backup.ID{id}; len(todo) > 0; todo = todo[1:] {
		for _, child := range c.children[todo[0]] {
			if !seen[child] {
				seen[child] = true
				out = append(out, child)
				todo = append(todo, child)
			}
		}
	}
	slices.Reverse(out)
	return out
}
