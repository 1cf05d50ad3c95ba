package activities

import (
	"time"

	"github.com/holdfast-pg/holdfast/internal/backup"
	"github.com/holdfast-pg/holdfast/internal/config"
)

// Names of the search attributes that backups are listed by.
const (
	AttrServer   = "HoldfastServer"
	AttrMethod   = "HoldfastMethod"
	AttrBackupID = "HoldfastBackupID"
	AttrPhase    = "HoldfastPhase"
)

// Task queues. A keeper process serves two more, named by KeeperQueues.
const (
	WorkflowQueue = "holdfast-workflow"
	CopyQueue     = "holdfast-copy"
	KeeperQueue   = "holdfast-keeper"
)

// Overrides are options of the command line; nil leaves what the configuration says.
type Overrides struct {
	ImmediateCheckpoint *bool          `json:"immediate_checkpoint,omitempty"`
	Jobs                *int           `json:"jobs,omitempty"`
	ReuseBackup         *string        `json:"reuse_backup,omitempty"`
	BandwidthLimit      *int           `json:"bandwidth_limit,omitempty"` // kB/s
	RetryTimes          *int           `json:"retry_times,omitempty"`
	RetrySleep          *time.Duration `json:"retry_sleep,omitempty"`
	Manifest            *bool          `json:"manifest,omitempty"` // autogenerate_manifest
}

// apply returns a copy of the server's settings with the overrides.
func (o Overrides) apply(s *config.Server) *config.Server {
	c := *s
	set(&c.ImmediateCheckpoint, o.ImmediateCheckpoint)
	set(&c.ParallelJobs, o.Jobs)
	set(&c.ReuseBackup, o.ReuseBackup)
	set(&c.BandwidthLimit, o.BandwidthLimit)
	set(&c.BasebackupRetryTimes, o.RetryTimes)
	set(&c.BasebackupRetrySleep, o.RetrySleep)
	set(&c.AutogenerateManifest, o.Manifest)
	return &c
}

func set[T any](field *T, value *T) {
	if value != nil {
		*field = *value
	}
}

// Request names a server and how this backup differs from its configuration.
type Request struct {
	Server    string    `json:"server"`
	Name      string    `json:"name,omitempty"`     // of the backup
	BuildOn   string    `json:"build_on,omitempty"` // the backup that an incremental one builds on, however it is named
	Overrides Overrides `json:"overrides"`
	// Configured are the marks of the configuration that whoever asks has read; nil when nobody did. They
	// are for PlanBackup alone.
	Configured map[string]string `json:"configured,omitempty"`
}

// Ref names a backup and the attempt at it that a call works for.
type Ref struct {
	Request
	ID      backup.ID `json:"id"`
	Attempt int       `json:"attempt"`
}

// Plan is what a preflight found out: which pieces the backup consists of.
type Plan struct {
	Method     string        `json:"method"`  // backup_method
	Bracket    string        `json:"bracket"` // Concurrent, Exclusive or Native
	Mode       string        `json:"mode"`    // as backup.info has it
	SystemID   string        `json:"system_id"`
	Version    int           `json:"version"` // server_version_num
	Bytes      int64         `json:"bytes"`   // size of the cluster; 0 when the copy measures it
	Deadline   time.Duration `json:"deadline"`
	WALWait    time.Duration `json:"wal_wait"`
	Heartbeat  time.Duration `json:"heartbeat"` // after which a silent activity counts as dead
	Standby    bool          `json:"standby"`
	Checkpoint string        `json:"checkpoint"`         // fast or spread
	Hooks      bool          `json:"hooks,omitempty"`    // scripts run before or after
	Parent     backup.ID     `json:"parent,omitempty"`   // what an incremental backup builds on
	Replicas   bool          `json:"replicas,omitempty"` // it goes to several object stores
}

// The brackets around a copy.
const (
	// Concurrent is a PostgreSQL session in backup mode.
	Concurrent = "concurrent"
	// Exclusive is a server in backup mode, whoever connects to it.
	Exclusive = "exclusive"
	// Native is a copy that begins and ends backup mode itself.
	Native = "native"
)

// Copied are the facts of a finished copy.
type Copied struct {
	Bytes        int64         `json:"bytes"`
	DedupBytes   int64         `json:"dedup_bytes"`
	Files        int64         `json:"files"`
	SentFiles    int64         `json:"sent_files"`   // by this activity
	ReusedFiles  int64         `json:"reused_files"` // of an earlier attempt
	CopyTime     time.Duration `json:"copy_time"`
	AnalysisTime time.Duration `json:"analysis_time"`
	Items        []CopiedItem  `json:"items,omitempty"`
	Label        string        `json:"label,omitempty"`       // when the copy brought it
	Compression  string        `json:"compression,omitempty"` // of tar archives; "" for plain files
	Encryption   string        `json:"encryption,omitempty"`  // of tar archives; "" for clear ones
	Workers      int           `json:"workers"`
	StoreBytes   int64         `json:"store_bytes,omitempty"`   // of Bytes, what was sent to an object store, which had or copied the rest
	ClusterBytes int64         `json:"cluster_bytes,omitempty"` // of the files that the archives hold; 0 when the server was asked before
	BadPages     []string      `json:"bad_pages,omitempty"`     // files and blocks, in words for people
	Warnings     []string      `json:"warnings,omitempty"`      // in words for people
}

// CopiedItem is how long a tablespace, the data directory or a file on its own took.
type CopiedItem struct {
	Name       string        `json:"name"`
	Analysis   time.Duration `json:"analysis"`
	Copy       time.Duration `json:"copy"`
	Serialized time.Duration `json:"serialized"` // all transfers added up
}

// Recorded is what is known of a backup that was declared done.
type Recorded struct {
	Follows bool `json:"follows"` // an older one is complete, so that no WAL is to be purged; histories of earlier versions say nothing
}

// Progress is a heartbeat's detail.
type Progress struct {
	What    string `json:"what"`              // in words for people
	Trouble string `json:"trouble,omitempty"` // why it may never end, in words for people; "" for no reason
	Done    int64  `json:"done"`              // bytes
	Total   int64  `json:"total"`
	Files   int64  `json:"files,omitempty"`
}

// Doing is what is done and what stands in its way.
func (p Progress) Doing() string {
	if p.Trouble == "" {
		return p.What
	}
	return p.What + ": " + p.Trouble
}
