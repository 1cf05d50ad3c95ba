package cloudcopy

import (
	"sync/atomic"
	"time"

	"github.com/holdfast-pg/holdfast/internal/datadir"
	"github.com/holdfast-pg/holdfast/internal/frame"
	"github.com/holdfast-pg/holdfast/internal/objstore"
	"github.com/holdfast-pg/holdfast/internal/volumes"
	"github.com/holdfast-pg/holdfast/internal/wal"
)

// Reuse says what of an earlier backup is not sent again.
type Reuse string

// What is taken from an earlier backup.
const (
	Off      Reuse = "off"
	Checksum Reuse = "checksum" // segments with the same checksum; everything is read
	Mtime    Reuse = "mtime"    // and files that are unchanged by their times are not read
)

// Fence keeps a writer that was superseded from writing.
type Fence interface {
	Do(write func() error) error
}

// Job is one backup.
type Job struct {
	Store   objstore.Store
	Base    string // prefix of the backup's keys, with a slash at its end
	WorkDir string // of the journal
	Fence   Fence
	Attempt int

	Cluster  volumes.Cluster
	Singles  []volumes.Single
	SystemID uint64
	Start    wal.LSN // of the session; pages of later changes are not checked
	World    datadir.World

	Codec       frame.Codec
	VolumeSize  int64 // 0 for the default
	LargestSize int64 // of an archive
	PartSize    int64
	Jobs        int // volumes at a time
	Reuse       Reuse
	Previous    string // prefix of the keys of the backup that is reused; "" for none

	Progress *Progress
}

// Progress grows while the copy works.
type Progress struct {
	Done  atomic.Int64 // bytes of the cluster
	Total atomic.Int64
	Files atomic.Int64
}

// Result is what a copy consists of.
type Result struct {
	Bytes    int64 // of the cluster's files in the archives
	Stored   int64 // of the objects
	Sent     int64 // of those, what this call compressed and sent; the rest was there, or copied by the store
	Files    int64
	Kept     int64 // files that an earlier attempt has stored
	Copy     time.Duration
	Analysis time.Duration
	Items    []Item
	Links    []string // that were followed, below their tree's root
	Resized  []string // files that changed their size while they were read, and that WAL replay does not mend
	BadPages []BadPages
	// Unusable says why the records of the previous backup are of no use; all was sent then.
	Unusable string
	// Lost are objects of the previous backup that the store has no more, or of another size.
	Lost []string
}

// Item is how long a tree took.
type Item struct {
	Name                       string
	Analysis, Copy, Serialized time.Duration
}

// BadPages are blocks of a file whose checksum is wrong.
type BadPages struct {
	Path   string   `json:"path"`
	Bad    int64    `json:"bad"`
	Blocks []uint32 `json:"blocks"` // the first of them
}
