package snapshot

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/holdfast-pg/holdfast/internal/backup"
	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/internal/fault"
)

// Phase is how far a snapshot is.
type Phase string

// The phases, in their order.
const (
	Pending   Phase = "pending"   // its content may still change with the disk
	Cut       Phase = "cut"       // its content is fixed, and may have to be copied yet
	Completed Phase = "completed" // it can be restored
	Failed    Phase = "failed"    // it never will
)

// reached reports whether a phase is at least another one.
func (p Phase) reached(want Phase) bool {
	order := []Phase{Pending, Cut, Completed}
	return slices.Index(order, p) >= slices.Index(order, want)
}

// Tag says for whom a snapshot was made.
type Tag struct {
	Owner   string // a server of an installation, see OwnerOf
	ID      backup.ID
	Attempt int // of the backup: one PostgreSQL session
}

// String is the part of the tag that tells attempts of an owner apart.
func (t Tag) String() string { return string(t.ID) + "." + strconv.Itoa(t.Attempt) }

// ParseTag reads what String wrote.
func ParseTag(owner, text string) (Tag, error) {
	id, number, _ := strings.Cut(text, ".")
	n, err := strconv.Atoi(number)
	if err != nil || n < 1 {
		return Tag{}, fmt.Errorf("%q is no backup and its attempt", text)
	}
	known, err := backup.ParseID(id)
	return Tag{Owner: owner, ID: known, Attempt: n}, err
}

// OwnerOf names a server of this installation. Two installations may back up the
// same disks, and neither may take the other's snapshots for leftovers.
func OwnerOf(s *config.Server) string {
	host, _ := os.Hostname()
	sum := sha256.Sum256([]byte(host + "\x00" + s.BackupDirectory))
	return word(s.Name) + "-" + hex.EncodeToString(sum[:4])
}

// Disk is a disk that a user has listed.
type Disk struct {
	Name    string // as the configuration has it
	Path    string // the directory that has its content, without symbolic links
	Mount   string // where the file system with that directory is mounted
	Options string // and how
	Device  string // of a cloud, on the instance: a path below /dev
	// Volume and Partition say what of a cloud's disk has the file system, as Device and
	// Partition of FileSystem.
	Volume    string `json:",omitempty"`
	Partition int    `json:",omitempty"`
	// WAL is the directory below Path with the cluster's WAL, "" when it is elsewhere. No
	// restore reads it: a snapshot that leaves it out keeps no old WAL from being overwritten.
	WAL string
}

// Snapshot is one of one disk.
type Snapshot struct {
	Tag   Tag
	Name  string // see NameOf
	ID    string // by which the provider knows it
	Path  string // a directory with the content, on the host of the disks; "" when there is none
	Phase Phase
	Why   string // it has failed
	Lock  *Lock  // nil when there is none
}

// Provider makes snapshots. Its methods may be called by several goroutines.
// Errors are of package fault; fault.Connection, when the host or the service is
// out of reach, and fault.Disk, when space is, are told apart from the rest.
type Provider interface {
	// Disks finds what the configuration lists, in its order. A disk that is not
	// there, or is none that the provider can cut, is fault.NotFound or
	// fault.Refused, and named.
	Disks(ctx context.Context) ([]Disk, error)
	// Create makes a snapshot, which carries its tag from its first moment, or none.
	// One of the same tag and disk that is there already is returned.
	Create(ctx context.Context, tag Tag, disk Disk) (Snapshot, error)
	// List has all snapshots of an owner, of all pages. What was created a moment
	// ago may be missing.
	List(ctx context.Context, owner string) ([]Snapshot, error)
	// Delete removes a snapshot; one that is not there is fine.
	Delete(ctx context.Context, s Snapshot) error
}

// Atomic is a provider that can cut several disks at the same moment.
type Atomic interface {
	// CreateSet is Create for all disks at the same moment. Where these cannot be cut so it
	// makes none, and returns none.
	CreateSet(ctx context.Context, tag Tag, disks []Disk) ([]Snapshot, error)
}

// Access is a way to a provider, and to the host whose disks it cuts.
type Access struct {
	Provider
	Host  Host
	Close func()
}

// Open makes an access to the provider of a server's settings. What it runs on
// this host has env in its environment.
type Open func(ctx context.Context, s *config.Server, env ...string) (*Access, error)

// NameOf is the name of the snapshot of a disk for a backup. Nothing is deleted
// whose name does not end like this.
func NameOf(disk string, id backup.ID) string { return word(disk) + suffix(id) }

func suffix(id backup.ID) string { return "-" + strings.ToLower(string(id)) }

// word keeps of a name what every provider allows.
func word(s string) string {
	s = strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '_' || r == '.' {
			return r
		}
		return '-'
	}, strings.Trim(s, "/"))
	return cmp.Or(strings.TrimLeft(s, "-."), "root")
}

// CheckNames refuses disks whose snapshots would share a name.
func CheckNames(disks []string) error {
	by := map[string]string{}
	for _, d := range disks {
		if other, taken := by[word(d)]; taken {
			return fault.New(fault.Config, "name snapshots of", d, "they would have the names of those of %s", other).
				WithHint("let snapshot_disks list each disk once, and give disks names that differ in letters or digits")
		}
		by[word(d)] = d
	}
	return nil
}

// Remove deletes a snapshot that a backup has, and no other.
func Remove(ctx context.Context, p Provider, id backup.ID, s Snapshot) error {
	if !strings.HasSuffix(strings.ToLower(s.Name), suffix(id)) {
		return fault.New(fault.Refused, "delete snapshot", s.Name, "its name does not end with %s", suffix(id)).
			WithHint("it is no snapshot of this backup: look at it, and delete it by hand if it is nothing")
	}
	if s.locked() {
		return s.refuse()
	}
	return p.Delete(ctx, s)
}

// RemoveAll deletes the snapshots of a backup of all attempts, and those that its
// record names. One that cannot be deleted keeps no other from it.
func RemoveAll(ctx context.Context, p Provider, owner string, id backup.ID, recorded *Record) error {
	all, err := p.List(ctx, owner)
	if err != nil {
		return err
	}
	all = slices.DeleteFunc(all, func(s Snapshot) bool { return s.Tag.ID != id })
	if recorded != nil {
		for _, r := range recorded.made() {
			if !slices.ContainsFunc(all, func(s Snapshot) bool { return s.ID == r.ID }) {
				all = append(all, r)
			}
		}
	}
	return removeEach(ctx, p, id, all)
}

func removeEach(ctx context.Context, p Provider, id backup.ID, all []Snapshot) error {
	var errs []error
	for _, s := range all {
		errs = append(errs, Remove(ctx, p, id, s))
	}
	return errors.Join(errs...)
}

// RemoveRecorded deletes the snapshots that the record of a backup names, whoever made them.
func RemoveRecorded(ctx context.Context, p Provider, id backup.ID, r *Record) error {
	return removeEach(ctx, p, id, r.made())
}

// below returns where path lies in dir, by path components.
func below(dir, path string) (string, bool) {
	rel, err := filepath.Rel(dir, path)
	return rel, err == nil && rel != ".." && !strings.HasPrefix(rel, "../")
}
