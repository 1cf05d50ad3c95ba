package retention_test

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-pg/holdfast/internal/backup"
	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/retention"
	"github.com/holdfast-pg/holdfast/internal/wal"
)

var update = flag.Bool("update", false, "rewrite the files that tests compare with")

const mib = 1 << 20

var now = time.Date(2026, 3, 31, 12, 0, 0, 0, time.UTC)

// daily is a DONE backup of a day of March; its WAL is segment day to segment
// day of 16 MiB.
func daily(day int, change ...func(*retention.Backup)) retention.Backup {
	at := time.Date(2026, 3, day, 0, 0, 0, 0, time.UTC)
	b := retention.Backup{ID: backup.NewID(at), Status: backup.Done, SystemID: "1", Timeline: 1, SegmentSize: 16 * mib,
		Begin: wal.LSN(day*16*mib + 40), End: wal.LSN(day*16*mib + 4000), EndTime: at.Add(time.Hour)}
	for _, f := range change {
		f(&b)
	}
	return b
}

func status(s backup.Status) func(*retention.Backup) {
	return func(b *retention.Backup) { b.Status = s }
}

func kept(w retention.Word) func(*retention.Backup) { return func(b *retention.Backup) { b.Keep = w } }

func on(tli uint32) func(*retention.Backup) { return func(b *retention.Backup) { b.Timeline = tli } }

func of(day int) func(*retention.Backup) {
	return func(b *retention.Backup) { b.Parent = daily(day).ID }
}

func begun(b *retention.Backup) { b.Begin, b.End, b.Timeline = 0, 0, 0 }

func deleting(b *retention.Backup) { b.Deleting, b.Status = true, backup.Failed }

func policy(t testing.TB, text string) config.Retention {
	t.Helper()
	if text == "" {
		return config.Retention{}
	}
	r, ok := config.ParseRetention(text)
	if !ok {
		t.Fatal(text)
	}
	return r
}

// segment names the first segments of timelines: tli, from, to.
func segments(tli uint32, from, to int) []string {
	var out []string
	for n := from; n <= to; n++ {
		out = append(out, wal.Segment{TLI: tli, No: uint64(n), Size: 16 * mib}.Name())
	}
	return out
}

func forked(tli uint32, switches ...wal.Switch) map[uint32]wal.History {
	return map[uint32]wal.History{tli: {TLI: tli, Switches: switches}}
}

// left is where a timeline was left, in the middle of a segment.
func left(tli uint32, segment int) wal.Switch {
	return wal.Switch{TLI: tli, At: wal.LSN(segment*16*mib + 8*mib)}
}

func write(b *strings.Builder, p *retention.Plan, err error) {
	if err != nil {
		fmt.Fprintf(b, "error: %v\nhint: %s\n", err, fault.HintOf(err))
		return
	}
	fmt.Fprintf(b, "policy: %s\n", cmp.Or(p.Policy, "none"))
	for _, w := range p.Warnings {
		fmt.Fprintf(b, "warning: %s\n", w)
	}
	verb := map[bool]string{true: "delete", false: "keep"}
	for _, d := range p.Backups {
		fmt.Fprintf(b, "%-6s %s %s %s: %s\n", verb[d.Delete], d.ID, d.Status, d.Word, d.Reason)
	}
	fmt.Fprintf(b, "order: %v\n", p.Doomed)
	if p.NoPurge != "" {
		fmt.Fprintf(b, "no file is deleted: %s\n", p.NoPurge)
	}
	for _, f := range p.Files {
		fmt.Fprintf(b, "%-6s %s: %s\n", verb[f.Delete], f.Name, f.Reason)
	}
}

// TestPlans compares plans with testdata; -update writes them anew.
func TestPlans(t *testing.T) {
	const waiting, failed, started, empty = backup.WaitingForWALs, backup.Failed, backup.Started, backup.Empty
	label := "000000010000000000000002.00000028.backup"
	for name, c := range map[string]struct {
		policy  string
		minimum int
		worm    bool
		backups []retention.Backup
		names   []string
		history map[uint32]wal.History
		asked   []int // days; nil for the policy
		first   int   // the day of the first backup, when that is what has happened
	}{
		"redundancy": {policy: "REDUNDANCY 2", backups: []retention.Backup{daily(1), daily(2), daily(3), daily(4)},
			names: slices.Concat(segments(1, 1, 5), []string{label, "000000010000000000000003.partial", "00000002.history", "junk"})},
		"redundancy below the minimum": {policy: "REDUNDANCY 1", minimum: 3, backups: []retention.Backup{daily(1), daily(2), daily(3), daily(4)}},
		"redundancy with kept backups": {policy: "REDUNDANCY 2", names: segments(1, 1, 9), backups: []retention.Backup{
			daily(1, kept(retention.KeepFull)), daily(2), daily(3, kept(retention.KeepStandalone)), daily(7, kept(retention.KeepFull)), daily(8)}},
		"standalone": {policy: "REDUNDANCY 1", names: segments(1, 1, 9), backups: []retention.Backup{
			daily(3, kept(retention.KeepStandalone)), daily(5), daily(8)}},
		"standalone in use": {policy: "REDUNDANCY 1", names: segments(1, 1, 9), backups: []retention.Backup{
			daily(3, kept(retention.KeepStandalone), func(b *retention.Backup) { b.InUse = "a restore reads it" }), daily(5), daily(8)}},
		"standalone is the newest": {policy: "REDUNDANCY 1", names: segments(1, 1, 9), backups: []retention.Backup{daily(3, kept(retention.KeepStandalone))}},
		"window":                   {policy: "RECOVERY WINDOW OF 7 DAYS", names: segments(1, 9, 30), backups: []retention.Backup{daily(10), daily(20), daily(22), daily(26), daily(30)}},
		"window and minimum": {policy: "RECOVERY WINDOW OF 7 DAYS", minimum: 4, backups: []retention.Backup{
			daily(1), daily(2), daily(3, kept(retention.KeepStandalone)), daily(20), daily(26)}},
		"failed, started and waiting": {policy: "REDUNDANCY 1", names: segments(1, 1, 9), backups: []retention.Backup{
			daily(1, status(failed)), daily(2), daily(3, status(waiting)), daily(4), daily(5, status(waiting)), daily(6, status(started))}},
		"started without a begin": {policy: "REDUNDANCY 1", names: segments(1, 1, 9), backups: []retention.Backup{daily(1), daily(4), daily(6, status(empty), begun)}},
		"chains": {policy: "REDUNDANCY 1", names: segments(1, 1, 12), backups: []retention.Backup{
			daily(1), daily(2, of(1)), daily(3, of(2)), daily(4, of(1), status(failed)), daily(8), daily(9, of(8)), daily(10, of(8), status(failed))}},
		"chain that grows": {policy: "REDUNDANCY 1", names: segments(1, 1, 12), backups: []retention.Backup{
			daily(1), daily(2, of(1)), daily(3, of(2), status(started)), daily(8)}},
		"chain below a standalone one": {policy: "REDUNDANCY 1", names: segments(1, 1, 9), backups: []retention.Backup{
			daily(1, kept(retention.KeepStandalone)), daily(2, of(1)), daily(3, of(2)), daily(8)}},
		"chain below a kept one": {policy: "REDUNDANCY 1", names: segments(1, 1, 9), backups: []retention.Backup{
			daily(1, kept(retention.KeepFull)), daily(2, of(1)), daily(8)}},
		"chain without its root": {policy: "REDUNDANCY 1", backups: []retention.Backup{daily(2, of(1)), daily(3, of(2)), daily(8), daily(9)}},
		"in use": {policy: "REDUNDANCY 1", names: segments(1, 1, 9), backups: []retention.Backup{
			daily(1), daily(2, func(b *retention.Backup) { b.InUse = "a restore reads it" }), daily(8)}},
		"orphan":               {policy: "REDUNDANCY 1", names: segments(1, 1, 9), backups: []retention.Backup{daily(1), daily(2), daily(8, func(b *retention.Backup) { b.Orphan = true })}},
		"interrupted deletion": {names: segments(1, 1, 9), backups: []retention.Backup{daily(1, deleting), daily(2, of(1)), daily(8)}},
		"no policy":            {names: segments(1, 1, 9), backups: []retention.Backup{daily(1), daily(8)}},
		"write-once":           {policy: "REDUNDANCY 1", worm: true, names: segments(1, 1, 9), backups: []retention.Backup{daily(1), daily(8)}},
		"branch": {policy: "REDUNDANCY 2", history: forked(2, left(1, 5)), names: slices.Concat(segments(1, 4, 11), segments(2, 5, 10)),
			backups: []retention.Backup{daily(10), daily(8, on(2))}},
		"branch before the backup": {policy: "REDUNDANCY 1", history: forked(2, left(1, 5)), names: slices.Concat(segments(1, 4, 11), segments(2, 5, 10)),
			backups: []retention.Backup{daily(4), daily(8, on(2))}},
		"promotion after the backup": {policy: "REDUNDANCY 2", history: forked(2, left(1, 5)), names: slices.Concat(segments(1, 1, 6), segments(2, 5, 10)),
			backups: []retention.Backup{daily(3), daily(8, on(2))}},
		"history is missing": {policy: "REDUNDANCY 2", names: slices.Concat(segments(1, 1, 6), segments(2, 5, 10)),
			backups: []retention.Backup{daily(3), daily(8, on(2))}},
		"timeline without a backup": {policy: "REDUNDANCY 1", history: forked(2, left(1, 3)), names: slices.Concat(segments(1, 1, 10), segments(2, 3, 6)),
			backups: []retention.Backup{daily(2), daily(8)}},
		"delete the only one":               {names: segments(1, 1, 9), backups: []retention.Backup{daily(5)}, asked: []int{5}},
		"delete below the minimum":          {minimum: 2, backups: []retention.Backup{daily(5), daily(6), daily(7, status(waiting))}, asked: []int{5}},
		"delete at the minimum":             {minimum: 2, backups: []retention.Backup{daily(5), daily(6), daily(7)}, asked: []int{5}},
		"delete two, one too many":          {minimum: 2, backups: []retention.Backup{daily(5), daily(6), daily(7)}, asked: []int{5, 6}},
		"delete a kept one":                 {backups: []retention.Backup{daily(5, kept(retention.KeepStandalone)), daily(6)}, asked: []int{5}},
		"delete one in use":                 {backups: []retention.Backup{daily(5), daily(6, of(5), func(b *retention.Backup) { b.InUse = "a restore reads it" })}, asked: []int{5}},
		"delete snapshots":                  {backups: []retention.Backup{daily(5, func(b *retention.Backup) { b.Snapshots = true })}, asked: []int{5}},
		"delete a chain":                    {names: segments(1, 1, 9), backups: []retention.Backup{daily(1), daily(2, of(1)), daily(3, of(2)), daily(4, of(1), status(failed)), daily(8)}, asked: []int{2, 1}},
		"delete a failed one":               {minimum: 1, names: segments(1, 1, 9), backups: []retention.Backup{daily(4, status(failed)), daily(5)}, asked: []int{4}},
		"delete the only one, which failed": {names: segments(1, 1, 9), backups: []retention.Backup{daily(4, status(failed))}, asked: []int{4}},
		"delete a middle one":               {names: segments(1, 1, 9), backups: []retention.Backup{daily(4), daily(5), daily(6)}, asked: []int{5}},
		"delete none such":                  {backups: []retention.Backup{daily(4)}, asked: []int{5}},
		"first":                             {names: segments(1, 1, 9), backups: []retention.Backup{daily(5)}, first: 5},
		"first, after a failed one":         {names: segments(1, 1, 9), backups: []retention.Backup{daily(4, status(failed)), daily(5)}, first: 5},
		"first, which failed":               {names: segments(1, 1, 9), backups: []retention.Backup{daily(5, status(failed), begun)}, first: 5},
		"first, still waiting":              {names: segments(1, 1, 9), backups: []retention.Backup{daily(5, status(waiting))}, first: 5},
		"not the first":                     {names: segments(1, 1, 9), backups: []retention.Backup{daily(4), daily(5)}, first: 5},
	} {
		in := retention.Input{Server: "main", Backups: c.backups, Policy: retention.Policy{Retention: policy(t, c.policy), Minimum: c.minimum, WORM: c.worm}, Now: now, Names: c.names, Histories: c.history}
		var out strings.Builder
		switch {
		case c.asked != nil:
			var ids []backup.ID
			for _, day := range c.asked {
				ids = append(ids, daily(day).ID)
			}
			p, err := retention.Delete(in, ids)
			write(&out, p, err)
		case c.first != 0:
			write(&out, retention.AfterFirst(in, daily(c.first).ID), nil)
		default:
			write(&out, retention.Make(in), nil)
		}
		golden := filepath.Join("testdata", strings.ReplaceAll(strings.ReplaceAll(name, ",", ""), " ", "-")+".golden")
		if *update {
			if err := errors.Join(os.MkdirAll("testdata", 0o755), os.WriteFile(golden, []byte(out.String()), 0o644)); err != nil {
				t.Fatal(err)
			}
		}
		if want, err := os.ReadFile(golden); errors.Is(err, fs.ErrNotExist) || string(want) != out.String() {
			t.Errorf("%s: %v\n%s", name, err, out.String())
		}
	}
}
