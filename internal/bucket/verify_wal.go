package bucket

import (
	"context"
	"fmt"
	"io"
	"strconv"

	"github.com/holdfast-pg/holdfast/internal/backupinfo"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/wal"
)

// wal reads the segments that make the backup consistent.
func (v *verifier) wal(ctx context.Context, b *Bucket) error {
	if v.info.BeginWAL == nil || v.info.EndWAL == nil {
		v.damaged("the record lacks the begin or end of the WAL")
		return nil
	}
	w, err := b.WAL(ctx, *v.info.BeginWAL)
	if err != nil {
		return err
	}
	size := wal.DefaultSegmentSize
	if v.info.SegmentSize != nil {
		size = *v.info.SegmentSize
	}
	var lacks, there []string
	err = wal.EachSegment(*v.info.BeginWAL, *v.info.EndWAL, size, func(name string) error {
		if len(w.objects[name]) == 0 {
			lacks = append(lacks, name)
		} else {
			there = append(there, name)
		}
		return nil
	})
	switch {
	case err != nil:
		v.damaged("the record: %v", err)
	case len(lacks) == 0:
	case len(w.objects) == 0:
		v.result.Unproven = append(v.result.Unproven, "no WAL is kept below "+b.URL+"/"+b.wals()+": whether it is complete was not looked at; holdfast check-backup looks into the archive of a configured server")
	default:
		v.damaged("WAL that the backup needs is missing below %s: %s", b.wals(), some(lacks))
	}
	return each(ctx, len(there), func(ctx context.Context, i int) error {
		err := w.check(ctx, there[i], size, v.info)
		if fault.Is(err, fault.Corrupt) || fault.Is(err, fault.NotFound) {
			v.damaged("%v", err)
			return nil
		}
		return err
	})
}

// check reads a segment to its end.
func (w *WAL) check(ctx context.Context, name string, size uint64, info *backupinfo.Info) error {
	plain, key, err := w.open(ctx, name)
	if err != nil {
		return err
	}
	defer plain.Close()
	corrupt := func(err error) error { return fault.Wrap(fault.Corrupt, "read", key, err) }
	head := make([]byte, wal.LongHeaderSize)
	n, err := io.ReadFull(plain, head)
	if err != nil {
		return corrupt(fmt.Errorf("it ends after %d bytes: %w", n, err))
	}
	rest, err := io.Copy(io.Discard, plain)
	if got := uint64(rest) + wal.LongHeaderSize; err == nil && got != size {
		err = fmt.Errorf("it has %d bytes, a whole segment has %d", got, size)
	}
	if err != nil || info.Version != nil && *info.Version < oldest {
		return corrupt(err)
	}
	s, err := wal.ParseSegment(name, size)
	if err != nil {
		return err
	}
	var system uint64
	if info.SystemID != nil {
		system, _ = strconv.ParseUint(*info.SystemID, 10, 64) // 0 is any
	}
	return corrupt(wal.CheckPage(head, s, system))
}
