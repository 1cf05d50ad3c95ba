// Package postgres is the vocabulary of what a PostgreSQL server says of itself
// and of a backup. It is pure: package pg is the driver that asks.
package postgres

import (
	"fmt"
	"strconv"
	"time"

	"github.com/holdfast-pg/holdfast/internal/fault"
)

// MinVersion is the oldest PostgreSQL that is supported, as server_version_num.
const MinVersion = 130000

// NoExclusive is the first PostgreSQL without exclusive backups, as
// server_version_num.
const NoExclusive = 150000

// Tablespace is a row of pg_tablespace that has a location.
type Tablespace struct {
	Name     string
	OID      uint32
	Location string
}

// Facts are what a backup records about its server.
type Facts struct {
	Version        int // server_version_num
	VersionText    string
	SystemID       string
	InRecovery     bool
	Timeline       uint32
	DataDirectory  string
	SegmentSize    uint64
	ConfigFile     string
	HBAFile        string
	IdentFile      string
	IncludedFiles  []string
	Tablespaces    []Tablespace
	DataChecksums  string
	SummarizeWAL   string // "" before PostgreSQL 17
	ClusterSize    int64  // bytes; 0 when it was not measured
	WALLevel       string
	ArchiveMode    string
	ArchiveCommand string
	CurrentLSN     string // write position, or last replayed on a standby
	StartedAt      time.Time
}

// Start is what the server says when a backup begins.
type Start struct {
	LSN        string
	Timeline   uint32
	At         time.Time
	BackendPID uint32
	Facts      Facts
}

// Stop is what the server says when a backup ends.
type Stop struct {
	LSN           string
	Timeline      uint32
	At            time.Time
	Label         string // "" when the copy brings its own
	TablespaceMap string
}

// Major is the major version of a server_version_num.
func Major(version int) int { return version / 10000 }

// CheckVersion refuses a server that is too old.
func CheckVersion(version int) error {
	if version >= MinVersion {
		return nil
	}
	return fault.New(fault.Refused, "back up PostgreSQL", fmt.Sprintf("%d.%d", version/10000, version%10000), "versions before %s are not supported", strconv.Itoa(Major(MinVersion))).
		WithHint("upgrade the server, or keep Barman for it")
}

// CheckPrimary refuses a server that is not the primary of a standby.
func CheckPrimary(primary, standby Facts) error {
	refuse := func(format string, args ...any) error {
		return fault.New(fault.Config, "use", "primary_conninfo", format, args...).WithHint("let it name the primary of the server in conninfo")
	}
	switch {
	case primary.InRecovery:
		return refuse("it names a standby")
	case primary.SystemID != standby.SystemID:
		return refuse("it names another cluster: its system identifier is %s, that of the standby is %s", primary.SystemID, standby.SystemID)
	}
	return nil
}

// Client is a session of a program that takes backups.
type Client struct {
	PID         uint32 // of the server's process
	Application string
	Backend     string // its kind, as pg_stat_activity names it
	Addr        string // where the program runs; "" for a local socket
	Port        int
	Since       time.Time
	Slot        string // temporary replication slot of the session; "" for none
}

// CheckExclusive refuses a server that cannot be put into exclusive backup mode.
func CheckExclusive(version int, standby bool) error {
	const remedy = "set backup_options = concurrent_backup"
	switch {
	case version >= NoExclusive:
		return fault.New(fault.Refused, "start an exclusive backup", "", "PostgreSQL %d has none: version %d removed them", Major(version), Major(NoExclusive)).WithHint(remedy)
	case standby:
		return fault.New(fault.Refused, "start an exclusive backup", "", "the server is a standby, which cannot make one").WithHint(remedy)
	}
	return nil
}
