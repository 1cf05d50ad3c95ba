package check

import (
	"time"

	"github.com/holdfast-pg/holdfast/internal/backupinfo"
	"github.com/holdfast-pg/holdfast/internal/postgres"
	"github.com/holdfast-pg/holdfast/internal/report"
	"github.com/holdfast-pg/holdfast/internal/window"
)

// Facts are everything that the items are decided from.
type Facts struct {
	Now      time.Time
	Settings Settings
	Errors   []string // of the server's configuration, and options that a backup would refuse
	Postgres Postgres
	Store    Store
	Local    Local
	Schedule *report.Schedule // of the server's backups; nil when it has none
}

// Settings are the options that checks depend on.
type Settings struct {
	Method        string // backup_method
	Archiver      bool   // WAL is delivered by archive_command
	Streaming     bool   // WAL is streamed
	Exclusive     bool   // backups are exclusive
	Slot          string // that WAL is streamed from; "" for none
	Inactive      bool   // nothing is asked of PostgreSQL
	Retention     string // "" for no policy
	Compression   string // "" for none
	Redundancy    int
	MaxAge        time.Duration // of the last backup; 0 for any
	MinSize       int64         // of the last backup; 0 for any
	MaxWALAge     time.Duration // 0 for any
	MaxQueue      *int          // files that may wait; nil for any number
	WALWait       time.Duration // how long a backup waits for its WAL before somebody should look
	TimeoutPassed bool          // gathering the facts took longer than check_timeout
}

// Postgres is what the server says. Each error is the reason why what follows
// is unknown.
type Postgres struct {
	Err        error // of the connection or of reading its settings
	Facts      postgres.Facts
	Archiver   postgres.Archiver
	Privileges error // nil when a backup may be started
	Streaming  error // of the replication connection
	StreamID   string
	Slot       *postgres.Slot // nil when there is none
	SlotErr    error          // why that is not known
	WAL        *WALSource     // where WAL is streamed from, if that is configured apart
	Primary    *Primary       // of a standby; nil when none is configured
}

// WALSource is what the server of wal_conninfo and wal_streaming_conninfo says.
type WALSource struct {
	Err        error // of the connection
	WALLevel   string
	SystemID   string
	Monitoring error // nil when settings and statistics may be read
	Streaming  error // of the replication connection
	StreamID   string
}

// Primary is what the primary of a standby says.
type Primary struct {
	Err   error
	Facts postgres.Facts
}

// Store is what lies in the server's directories.
type Store struct {
	Directories []error // those that are missing or cannot be written
	Backups     []*backupinfo.Info
	Identity    string // system identifier in identity.json; "" before the first backup
	Listed      bool   // xlog.db has a line
	LastWAL     time.Time
	WALAfter    int64 // bytes of WAL since the last backup
	Gaps        []window.Span
	Lacking     []window.Lacking
	Incoming    int // files that wait
	InStreaming int
	Rejected    int  // files in the errors directory
	Receiving   bool // pg_receivewal runs
	Stopped     bool // somebody has stopped it, and it is not started again
	Behind      int  // complete backups that not every destination has
}

// Replica is a further object store of local-to-cloud.
type Replica struct {
	URL string
	Err error // why it cannot be used
}

// Local is what this host has for copying.
type Local struct {
	PGDataErr error // local-rsync: why the cluster's files cannot be read
	RsyncErr  error // of this host
	SSH       SSH
	CloudErr  error // local-to-cloud: why the object store cannot be used
	Replicas  []Replica
	BaseErr   error // postgres: why pg_basebackup cannot be run
	Disks     Disks // snapshot
	BaseMajor int

	Encrypts   bool  // backups and WAL are to be encrypted
	EncryptErr error // why they cannot be

	ReceiveErr   error // why pg_receivewal cannot be run
	ReceiveMajor int
	Received     error // why it ended the last time; nil when it runs or ended well
}

// SSH is what the host of the cluster says to ssh_command.
type SSH struct {
	LoginErr error // why no script can be run there
	NoiseErr error // that the login shell prints text of its own
	HostErr  error // what is missing there
	Labelled bool  // the data directory of the last backup has a backup_label; asked when PostgreSQL is silent
}

// Disks is what the provider of snapshots says. Each error is the reason why what
// follows is unknown.
type Disks struct {
	InstanceErr error // why the host of the disks, or their provider, cannot be reached
	MissingErr  error // why a disk cannot be cut
	LayoutErr   error // why the disks do not hold the whole cluster
	LayoutKnown bool  // PostgreSQL said where its files are
	Far         bool  // the host is another one
}
