package main

import (
	"context"

	"github.com/holdfast-pg/holdfast/internal/backup"
	"github.com/holdfast-pg/holdfast/internal/backupinfo"
	"github.com/holdfast-pg/holdfast/internal/catalog"
	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/internal/walarchive"
	"github.com/holdfast-pg/holdfast/internal/window"
)

// recoverable finds out what a server can be restored to, from the files that
// are there.
func recoverable(ctx context.Context, s *config.Server, archive *walarchive.Archive, backups []*backupinfo.Info) (window.Result, error) {
	marks, err := catalog.Open(catalog.LayoutOf(s)).Marks()
	if err != nil {
		return window.Result{}, err
	}
	in := window.Input{Backups: backups, Standalone: map[backup.ID]bool{}, Segments: window.NewSegments(window.SegmentSize(backups)), Written: archive.Written}
	for id, m := range marks {
		in.Standalone[id] = m.Keep == catalog.KeepStandalone
	}
	if in.Histories, err = archive.Histories(ctx); err != nil {
		return window.Result{}, err
	}
	if err := archive.EachStored(ctx, in.Segments.Add); err != nil {
		return window.Result{}, err
	}
	return window.Compute(in), nil
}
