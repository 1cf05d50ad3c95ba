package report

import (
	"fmt"
	"strings"

	"github.com/holdfast-pg/holdfast/internal/postgres"
	"github.com/holdfast-pg/holdfast/internal/wal"
)

// Target is which clients of a server are shown.
type Target string

// The targets, as Barman names them.
const (
	AllClients  Target = "all"
	Standbys    Target = "hot-standby"
	WALStreamer Target = "wal-streamer"
)

// kinds are the words for each target: its clients in the heading, in the count,
// and in JSON.
var kinds = map[Target]struct{ heading, counted, none, key string }{
	AllClients:  {"streaming clients", "streaming clients", "streaming clients", "streaming_clients"},
	Standbys:    {"hot standby servers", "hot standby servers", "hot standby servers", "hot_standby_servers"},
	WALStreamer: {"WAL streamers", "WAL streamers", "WAL streamers", "wal_streamers"},
}

// Replication is the clients that stream WAL from a server.
type Replication struct {
	Server string
	Target Target
	postgres.Replication
}

// streamer reports whether a client only receives WAL.
func streamer(c postgres.Streamer) bool { return c.Replayed == "" }

// clients are those of the target.
func (r Replication) clients() []postgres.Streamer {
	var out []postgres.Streamer
	for _, c := range r.Clients {
		if r.Target == AllClients || (r.Target == WALStreamer) == streamer(c) {
			out = append(out, c)
		}
	}
	return out
}

// Lines are the clients for people.
func (r Replication) Lines() []string {
	what := kinds[r.Target]
	lines := []string{fmt.Sprintf("Status of %s for server '%s':", what.heading, r.Server), "  Current LSN on master: " + r.LSN}
	clients := r.clients()
	if len(clients) == 0 {
		return append(lines, "  No "+what.none+" attached")
	}
	lines = append(lines, fmt.Sprintf("  Number of %s: %d", what.counted, len(clients)))
	for i, c := range clients {
		lines = append(lines, "", fmt.Sprintf("  %d. %s", i+1, name(c)))
		for _, row := range r.rows(c) {
			lines = append(lines, "     "+row)
		}
	}
	return lines
}

func (r Replication) rows(c postgres.Streamer) []string {
	rows := []string{"Application name: " + c.Application, "Sync stage      : " + stage(c)}
	if c.Addr == "" {
		rows = append(rows, "Communication   : Unix domain socket")
	} else {
		rows = append(rows, "Communication   : TCP/IP", fmt.Sprintf("IP Address      : %s / Port: %d / Host: %s", c.Addr, c.Port, orDash(c.Hostname)))
	}
	rows = append(rows, "User name       : "+c.User, fmt.Sprintf("Current state   : %s (%s)", c.State, c.SyncState))
	if c.Slot != "" {
		rows = append(rows, "Replication slot: "+c.Slot)
	}
	rows = append(rows, fmt.Sprint("WAL sender PID  : ", c.PID), "Started at      : "+c.Started.UTC().Format("2006-01-02 15:04:05.000000-07:00"))
	for _, p := range positions(c) {
		if p.lsn != "" {
			rows = append(rows, fmt.Sprintf("%-11s: %s (diff: %s)", p.name+" LSN", p.lsn, Size(r.behind(p.lsn))))
		}
	}
	return rows
}

// Minimal is a line for each client, for machines.
func (r Replication) Minimal() []string {
	what := kinds[r.Target]
	clients := r.clients()
	title := strings.ToUpper(what.heading[:1]) + strings.ToLower(what.heading[1:])
	if len(clients) == 0 {
		return []string{fmt.Sprintf("No %s attached to master '%s' (LSN @ %s)", what.none, r.Server, r.LSN)}
	}
	lines := []string{fmt.Sprintf("%s for master '%s' (LSN @ %s):", title, r.Server, r.LSN)}
	for i, c := range clients {
		kind, positions := "W", "S:"+c.Sent+" W:"+c.Written
		if !streamer(c) {
			kind, positions = strings.ToUpper((c.SyncState + "-")[:1]), "S:"+c.Sent+" F:"+c.Flushed+" R:"+c.Replayed
		}
		lines = append(lines, fmt.Sprintf("  %d. %s) %s@%s %s P:%d AN:%s", i+1, kind, c.User, c.Addr, positions, c.SyncOrder, c.Application))
	}
	return lines
}

// JSON is the clients as an object, under Barman's keys; minimal as Minimal has it.
func (r Replication) JSON(minimal bool) Object {
	list := []Object{}
	for _, c := range r.clients() {
		if minimal {
			list = append(list, brief(c))
			continue
		}
		o := Object{"application_name": c.Application, "communication": "TCP/IP", "current_state": c.State, "current_sync_state": c.SyncState, "host": nil,
			"ip_address": c.Addr, "port": c.Port, "name": name(c), "started_at": c.Started.UTC().Format("2006-01-02 15:04:05.000000-07:00"),
			"sync_stage": stage(c), "user_name": c.User, "wal_sender_pid": c.PID}
		if c.Hostname != "" {
			o["host"] = c.Hostname
		}
		if c.Addr == "" {
			o["communication"] = "Unix domain socket"
			delete(o, "ip_address")
			delete(o, "port")
			delete(o, "host")
		}
		if c.Slot != "" {
			o["replication_slot"] = c.Slot
		}
		for _, p := range positions(c) {
			if p.lsn == "" {
				continue
			}
			key := strings.ToLower(p.name) + "_lsn"
			o[key], o[key+"_diff"], o[key+"_diff_bytes"] = p.lsn, Size(r.behind(p.lsn)), r.behind(p.lsn)
		}
		list = append(list, o)
	}
	return Object{"server_lsn": r.LSN, kinds[r.Target].key: list}
}

func brief(c postgres.Streamer) Object {
	o := Object{"application_name": c.Application, "client_addr": c.Addr, "sent_lsn": c.Sent, "sync_priority": c.SyncOrder, "user_name": c.User}
	if streamer(c) {
		o["write_lsn"] = c.Written
		return o
	}
	o["flush_lsn"], o["replay_lsn"], o["sync_state"] = c.Flushed, c.Replayed, strings.ToUpper((c.SyncState + "-")[:1])
	return o
}

type position struct{ name, lsn string }

func positions(c postgres.Streamer) []position {
	return []position{{"Sent", c.Sent}, {"Write", c.Written}, {"Flush", c.Flushed}, {"Replay", c.Replayed}}
}

// behind is how far a position is from the server's, in bytes; negative for one
// that is behind.
func (r Replication) behind(lsn string) int64 {
	at, err1 := wal.ParseLSN(lsn)
	now, err2 := wal.ParseLSN(r.LSN)
	if err1 != nil || err2 != nil {
		return 0
	}
	return int64(at) - int64(now)
}

func name(c postgres.Streamer) string {
	kind := "standby"
	if streamer(c) {
		kind = "WAL streamer"
	}
	state := strings.ToUpper((c.SyncState + "-")[:1]) + c.SyncState[min(1, len(c.SyncState)):]
	if c.SyncOrder > 0 {
		state = fmt.Sprintf("#%d %s", c.SyncOrder, state)
	}
	return state + " " + kind
}

// stage is how far a client has come with what was sent.
func stage(c postgres.Streamer) string {
	most := 5
	if streamer(c) {
		most = 3
	}
	switch {
	case c.State != "streaming":
		return fmt.Sprintf("1/%d Catching up", most)
	case !streamer(c) && c.Replayed == c.Sent:
		return "5/5 Hot standby (max)"
	case !streamer(c) && c.Flushed == c.Sent:
		return "4/5 2-safe"
	case c.Written == c.Sent:
		return fmt.Sprintf("3/%d Remote write", most)
	}
	return fmt.Sprintf("2/%d WAL Sent (min)", most)
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
