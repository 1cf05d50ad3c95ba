package snapshot

import (
	"context"

	"github.com/holdfast-pg/holdfast/internal/pylit"
)

// Informer is a provider that Barman knows: it describes snapshots as Barman does in
// snapshots_info, in the order of the disks.
type Informer interface {
	SnapshotsInfo(ctx context.Context, disks []Disk, made []Snapshot) (pylit.Value, error)
}

// AttachedDisk is a disk of an instance, and the snapshot that it was made of.
type AttachedDisk struct {
	Disk
	Source string // ID of a snapshot, "" when the disk was made of none
}

// Instance is a provider whose disks are attached to instances, and are made there
// of snapshots.
type Instance interface {
	// Attached has all disks of an instance; an instance that is not there is fault.NotFound.
	Attached(ctx context.Context, instance string) ([]AttachedDisk, error)
	// CreateDisk makes a disk of a snapshot and attaches it. One that a call before has
	// made is attached, and one that is attached is returned.
	CreateDisk(ctx context.Context, instance string, s Snapshot) (AttachedDisk, error)
}
