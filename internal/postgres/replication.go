package postgres

import "time"

// System is what a server says of itself over the replication protocol.
type System struct {
	ID          string
	Timeline    uint32
	LSN         string // flushed so far
	SegmentSize uint64
}

// Slot is a replication slot.
type Slot struct {
	Physical   bool
	Active     bool
	RestartLSN string // "" before the first use
	WALStatus  string // reserved, extended, unreserved or lost
}

// Replication is a server with the clients that stream from it.
type Replication struct {
	InRecovery bool
	LSN        string // written, or replayed on a standby
	Clients    []Streamer
}

// Streamer is a client that streams WAL, a row of pg_stat_replication. Positions
// are "" where the server does not say.
type Streamer struct {
	PID         int
	Application string
	User        string
	Addr        string // "" for a local socket
	Hostname    string
	Port        int
	Started     time.Time
	State       string
	SyncState   string
	SyncOrder   int
	Slot        string
	Sent        string
	Written     string
	Flushed     string
	Replayed    string // "" for what only receives
}
