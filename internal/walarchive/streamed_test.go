package walarchive_test

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/walarchive"
)

const (
	seg4     = "000000010000000000000004"
	branched = "000000020000000000000004"
)

// streamed is a bench whose WAL pg_receivewal writes.
func streamed(t *testing.T, opt walarchive.Options) (b *bench, put func(dir, name, fill string)) {
	t.Helper()
	b = newBench(t, "gzip", mib)
	opt.Streaming, opt.SegmentSize = true, mib
	b.Archive = walarchive.Open(b.l, opt)
	return b, func(dir, name, fill string) {
		t.Helper()
		data := []byte(fill)
		if len(name) >= 24 {
			data = segment(t, name[:24], mib, fill)
		}
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// run archives what arrived, and expects what was archived and what is left.
func (b *bench) run(t *testing.T, archived []string, left string) walarchive.Arrived {
	t.Helper()
	got, err := b.ArchiveArrived(t.Context(), time.Date(2026, 11, 24, 9, 5, 7, 0, time.UTC))
	if err != nil || !slices.Equal(got.Archived, archived) {
		t.Errorf("archived %v, %v; wanted %v", got.Archived, err, archived)
	}
	if now := names(t, b.l.StreamingDir); now != left {
		t.Errorf("left in the streaming directory: %q, wanted %q", now, left)
	}
	return got
}

// What pg_receivewal goes on from stays, so that it finds its place when it is
// started again; everything else goes into the archive.
func TestStreamedWAL(t *testing.T) {
	b, put := streamed(t, walarchive.Options{})
	dir := b.l.StreamingDir
	b.run(t, nil, "")
	put(dir, seg1, seg1)
	put(dir, seg2, seg2)
	put(dir, seg3+".partial", "half")
	b.run(t, []string{seg1, seg2}, seg3+".partial")

	// The last segment is whole, and nothing was received since: a backup that
	// waits for it gets it.
	put(dir, seg3, "whole")
	if err := os.Remove(filepath.Join(dir, seg3+".partial")); err != nil {
		t.Fatal(err)
	}
	b.run(t, []string{seg3}, seg3)
	b.run(t, nil, seg3)
	put(dir, seg4+".partial", "half")
	b.run(t, []string{seg3}, seg4+".partial")

	// A promotion: the old timeline's last segment stays unfinished for ever.
	put(dir, branched+".partial", "half")
	put(dir, "00000002.history", "1\t0/4000100\tno recovery target specified\n")
	put(dir, "00000003.history.tmp", "1\t0/40")
	b.run(t, []string{seg4 + ".partial", "00000002.history"}, branched+".partial 00000003.history.tmp")
	if want := []string{seg1, seg2, seg3, seg4 + ".partial", "00000002.history"}; !slices.Equal(b.lines(t), want) {
		t.Errorf("xlog.db lists %v", b.lines(t))
	}
	b.noLeftovers(t)
}

// The same WAL may come both ways, in whatever order; other content is set aside.
func TestWALThatComesTwice(t *testing.T) {
	b, put := streamed(t, walarchive.Options{})
	put(b.l.IncomingDir, seg1, "same")
	put(b.l.StreamingDir, seg1, "same")
	put(b.l.StreamingDir, seg2, "same")
	put(b.l.StreamingDir, seg3+".partial", "half")
	b.run(t, []string{seg1, seg1, seg2}, seg3+".partial")
	put(b.l.IncomingDir, seg2, "same")
	put(b.l.StreamingDir, seg1, "other")
	if got := b.run(t, []string{seg2}, seg3+".partial"); !slices.Equal(got.Conflicts, []string{seg1}) {
		t.Errorf("%+v", got)
	}
	if left := names(t, b.l.ErrorsDir); left != seg1+".20261124T090507Z.duplicate" {
		t.Errorf("in the errors directory: %s", left)
	}
	if lines := b.lines(t); !slices.Equal(lines, []string{seg1, seg2}) {
		t.Errorf("xlog.db lists %v", lines)
	}
}

// After a promotion the server and pg_receivewal deliver the same unfinished
// segment, with other bytes behind the last record; archive_command must not
// wait for ever.
func TestUnfinishedSegmentsMayDiffer(t *testing.T) {
	b, put := streamed(t, walarchive.Options{})
	put(b.l.StreamingDir, seg4+".partial", "received")
	put(b.l.StreamingDir, branched+".partial", "later")
	b.run(t, []string{seg4 + ".partial"}, branched+".partial")
	now := time.Date(2026, 11, 24, 9, 5, 7, 0, time.UTC)
	src := b.write(t, seg4+".partial", segment(t, seg4, mib, "delivered"))
	for range 2 {
		if err := b.Deliver(t.Context(), src, seg4+".partial", now); err != nil {
			t.Fatal(err)
		}
	}
	if left := names(t, b.l.ErrorsDir); left != seg4+".partial.20261124T090507Z.duplicate" {
		t.Errorf("in the errors directory: %s", left)
	}
	b.archive(t, seg1)
	if err := b.Deliver(t.Context(), b.segment(t, seg1, "other"), seg1, now); !fault.Is(err, fault.Conflict) {
		t.Errorf("another whole segment of the same name: %v", err)
	}
}

func TestBatches(t *testing.T) {
	b, put := streamed(t, walarchive.Options{Batch: 2, StreamingBatch: 1})
	put(b.l.StreamingDir, seg4+".partial", "half")
	for _, name := range []string{seg1, seg2, seg3} {
		put(b.l.IncomingDir, name, name)
		put(b.l.StreamingDir, name, name)
	}
	b.run(t, []string{seg1, seg2, seg1}, seg2+" "+seg3+" "+seg4+".partial")
	b.run(t, []string{seg3, seg2}, seg3+" "+seg4+".partial")
	b.run(t, []string{seg3}, seg4+".partial")
}

// What was received before streaming_archiver was switched off is archived to
// the last segment; what was not finished stays.
func TestStreamingThatHasEnded(t *testing.T) {
	b := newBench(t, "", mib)
	for _, name := range []string{seg1, seg2 + ".partial"} {
		if err := os.WriteFile(filepath.Join(b.l.StreamingDir, name), segment(t, name[:24], mib, "x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	receiver, err := b.l.LockReceiving()
	if err != nil {
		t.Fatal(err)
	}
	b.run(t, []string{seg1}, seg2+".partial")
	if err := receiver.Release(); err != nil {
		t.Fatal(err)
	}
	b.run(t, nil, seg2+".partial")
	if err := os.Remove(filepath.Join(b.l.StreamingDir, seg2+".partial")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(b.l.StreamingDir, seg2), segment(t, seg2, mib, "x"), 0o600); err != nil {
		t.Fatal(err)
	}
	b.run(t, []string{seg2}, "")
	if err := os.Remove(b.l.StreamingDir); err != nil {
		t.Fatal(err)
	}
	if got, err := b.ArchiveArrived(t.Context(), time.Now()); err != nil || len(got.Archived) > 0 {
		t.Errorf("%v, %v", got, err)
	}
}
