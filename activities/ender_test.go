package activities

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/internal/postgres"
)

// asked is a server that notes what it is asked.
type asked struct {
	name    string
	standby bool
	calls   *[]string

	replayed, archived string
}

func (a asked) Facts(context.Context) (postgres.Facts, error) {
	return postgres.Facts{InRecovery: a.standby, Timeline: 1, CurrentLSN: a.replayed, SegmentSize: 16 << 20}, nil
}

func (a asked) MeasuredFacts(ctx context.Context) (postgres.Facts, error) { return a.Facts(ctx) }

func (a asked) Archiver(context.Context) (postgres.Archiver, error) {
	out := postgres.Archiver{LastWAL: a.archived}
	if a.name == "failing" {
		out.LastFailed, out.FailedAt = "000000010000000000000006", time.Now()
	}
	return out, nil
}
func (a asked) CheckPrivileges(context.Context) error { return nil }
func (a asked) Close()                                {}

func (a asked) CheckExclusive(context.Context) error             { return nil }
func (a asked) CreateRestorePoint(context.Context, string) error { return nil }

func (a asked) EndSegment(_ context.Context, name string) (bool, error) {
	if name != "" && !a.standby {
		*a.calls = append(*a.calls, a.name+" ends "+name)
	}
	return a.standby, nil
}

func (a asked) SwitchWAL(_ context.Context, force bool) (string, error) {
	call := a.name + " switches"
	if force {
		call += " after a checkpoint"
	}
	*a.calls = append(*a.calls, call)
	return "", nil
}

// TestEnder: who is asked to end a segment, when, and what people are told.
func TestEnder(t *testing.T) {
	const wal = "000000010000000000000007"
	at := []int{0, 5, 11, 22, 33, 44} // seconds at which it is asked
	for _, c := range []struct {
		title           string
		server, primary string // "" for none
		checkpoint      time.Duration
		segment         string
		want            []string
		trouble         string
		streamed        bool
	}{
		{title: "a server that cannot archive", server: "failing", segment: wal, want: slices.Repeat([]string{"failing ends " + wal}, 5), trouble: "archive_command fails"},
		{title: "a server that cannot archive, under pg_basebackup", server: "failing", streamed: true, trouble: "for 000000010000000000000006"},
		{title: "a server that cannot archive what is streamed", server: "failing", segment: wal, streamed: true, want: slices.Repeat([]string{"failing ends " + wal}, 5)},
		{title: "a primary", server: "primary", segment: wal, want: slices.Repeat([]string{"primary ends " + wal}, 5)},
		{title: "a primary ends what pg_basebackup waits for by itself", server: "primary"},
		{title: "a primary that is not named", server: "standby", segment: wal, trouble: "set primary_conninfo"},
		{title: "the primary of a standby", server: "standby", primary: "primary", segment: wal, want: slices.Repeat([]string{"primary ends " + wal}, 5)},
		{title: "the primary of a standby that runs pg_basebackup", server: "standby", primary: "primary", want: slices.Repeat([]string{"primary switches"}, 5)},
		{title: "a checkpoint, once", server: "standby", primary: "primary", segment: wal, checkpoint: 20 * time.Second,
			want: []string{"primary ends " + wal, "primary ends " + wal, "primary switches after a checkpoint", "primary ends " + wal, "primary ends " + wal}},
		{title: "a primary that is a standby", server: "standby", primary: "standby", segment: wal, trouble: "names a standby, too"},
		{title: "a primary that is away", server: "standby", primary: "away", segment: wal, trouble: "cannot be asked"},
		{title: "a server that is away", server: "away"},
	} {
		t.Run(c.title, func(t *testing.T) {
			var calls []string
			connect := func(_ context.Context, conninfo string) (Server, error) {
				if conninfo == "away" {
					return nil, errors.New("connection refused")
				}
				return asked{name: conninfo, standby: conninfo == "standby", calls: &calls}, nil
			}
			began := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
			e := ender{connect: connect, began: began,
				settings: &config.Server{ConnectionOptions: config.ConnectionOptions{Conninfo: config.NewDSN(c.server), PrimaryConninfo: config.NewDSN(c.primary), PrimaryCheckpointTimeout: c.checkpoint}, WALOptions: config.WALOptions{StreamingArchiver: c.streamed}}}
			var trouble string
			for _, s := range at {
				trouble = e.ask(t.Context(), began.Add(time.Duration(s)*time.Second), c.segment)
			}
			if !slices.Equal(calls, c.want) {
				t.Errorf("%q", calls)
			}
			if c.trouble == "" && trouble != "" || !strings.Contains(trouble, c.trouble) {
				t.Errorf("it says %q", trouble)
			}
		})
	}
}
