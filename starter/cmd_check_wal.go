package main

import (
	"context"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/report"
	"github.com/holdfast-pg/holdfast/internal/wal"
)

func (a *app) cmdCheckWALArchive() *cobra.Command {
	var timeline string
	cmd := &cobra.Command{
		Use: "check-wal-archive SERVER", Short: "Check that a new PostgreSQL server may archive here",
		Long: `Fails when the archive of a server holds WAL, because a new cluster would archive other
files under the same names. With --timeline, WAL of older timelines does no harm: a
restored cluster that continues on timeline 5 may archive where 1 to 4 are.`,
		Example:     "  holdfast check-wal-archive main\n  holdfast check-wal-archive main --timeline 5",
		Args:        exactly("SERVER"),
		Annotations: exitCodes("0 the archive may be used", "1 it holds WAL"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.checkWALArchive(cmd.Context(), args[0], timeline)
		},
	}
	cmd.Flags().StringVar(&timeline, "timeline", "", "the oldest `timeline` whose WAL is in the way (default: all are)")
	return cmd
}

func (a *app) checkWALArchive(ctx context.Context, server, timeline string) error {
	var from uint64
	if timeline != "" {
		var err error
		if from, err = strconv.ParseUint(timeline, 10, 32); err != nil || from == 0 {
			return fault.New(fault.Usage, "read", "--timeline "+timeline, "a timeline is a number from 1 on")
		}
	}
	s, err := a.server(server)
	if err != nil {
		return err
	}
	archive, err := archiveOf(s)
	if err != nil {
		return err
	}
	names, err := archive.Names(ctx)
	if err != nil {
		return err
	}
	found := []string{}
	for _, name := range names {
		if tli, err := wal.TimelineOf(name); err == nil && uint64(tli) >= from {
			found = append(found, name)
		}
	}
	a.json[s.Name] = report.Object{"files": len(found)}
	a.print("Server %s:", s.Name)
	if len(found) == 0 {
		a.print("\tWAL archive check for server %s passed", s.Name)
		return nil
	}
	what := "the archive is not empty"
	if from > 0 {
		what = "there is WAL of timeline " + timeline + " or a newer one"
	}
	return fault.New(fault.Conflict, "check the WAL archive of", s.Name, "%s: %s, from %s to %s", what, count(len(found), "file"), found[0], found[len(found)-1]).
		WithHint("a new cluster needs a server of its own in the configuration; for a restored one give the timeline on which it continues: --timeline N")
}

func (a *app) cmdCheckWALRange() *cobra.Command {
	return &cobra.Command{
		Use: "check-archived-wal-range SERVER BEGIN END", Short: "Check that WAL is archived without a gap",
		Long: `Looks for every WAL segment from BEGIN to END, both included, and names those that are
missing. When the two are of different timelines, the history of END's says where one
left the other.`,
		Example:     "  holdfast check-archived-wal-range main 00000001000000000000002A 000000010000000000000040",
		Args:        exactly("SERVER", "BEGIN", "END"),
		Annotations: exitCodes("0 no segment is missing", "1 segments are missing", "2 one is no segment, or they are in the wrong order"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.checkWALRange(cmd.Context(), args[0], args[1], args[2])
		},
	}
}

func (a *app) checkWALRange(ctx context.Context, server, begin, end string) error {
	s, err := a.server(server)
	if err != nil {
		return err
	}
	archive, err := archiveOf(s)
	if err != nil {
		return err
	}
	for _, name := range []string{begin, end} {
		if wal.Classify(name) != wal.SegmentFile {
			return fault.New(fault.Usage, "check WAL", name, "it is no name of a WAL segment").WithHint("a segment has 24 hexadecimal digits: 00000001000000000000002A")
		}
	}
	if begin > end {
		return fault.New(fault.Usage, "check WAL", begin+".."+end, "the end lies before the beginning").WithHint("give the older segment first")
	}
	size, err := segmentSize(ctx, s, archive)
	if err != nil {
		return err
	}
	missing, err := archive.Missing(ctx, begin, end, size)
	if err != nil {
		return err
	}
	object := report.Object{"begin_wal": begin, "end_wal": end, "missing_wals": []string{}}
	a.json[s.Name] = object
	a.print("Server %s:", s.Name)
	if len(missing) == 0 {
		a.print("\tWAL sequence check for server %s: all segments are present", s.Name)
		return nil
	}
	object["missing_wals"] = missing
	a.print("\tWAL sequence check for server %s: %d missing segment(s):", s.Name, len(missing))
	for _, name := range missing {
		a.print("\t\t%s", name)
	}
	return fault.New(fault.Corrupt, "check WAL", begin+".."+end, "%s missing from the archive of server %s: %s", isOrAre(len(missing), "segment"), s.Name, some(missing)).
		WithHint("no restore can pass such a gap: look for the segments in pg_wal of the server and on standbys, and archive them with holdfast wal-archive %s FILE; else take another backup", s.Name)
}
