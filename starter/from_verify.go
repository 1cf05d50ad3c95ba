package main

import (
	"cmp"
	"context"

	"github.com/holdfast-pg/holdfast/internal/backupinfo"
	"github.com/holdfast-pg/holdfast/internal/bucket"
	"github.com/holdfast-pg/holdfast/internal/catalog"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/report"
)

// verifyFrom is verify-backup of a store.
func (a *app) verifyFrom(ctx context.Context, name, ref string, jobs int, o from) error {
	b, err := o.bucket(ctx, name, checkPatience)
	if err != nil {
		return err
	}
	info, err := b.Resolve(ctx, ref)
	if err != nil {
		return err
	}
	switch {
	case !info.Status.CopyDone():
		return fault.New(fault.Refused, "verify backup", string(info.ID), "it is %s: its copy is not complete", info.Status).
			WithHint("name another one: holdfast list-backups %s", b.Server)
	case info.Snapshots != nil:
		return fault.New(fault.Refused, "verify backup", string(info.ID), "it consists of disk snapshots").
			WithHint("name another one: holdfast list-backups %s", b.Server)
	case jobs < 0:
		return fault.New(fault.Usage, "read", "--jobs", "%d is not at least 1", jobs)
	}
	if b, err = o.bucket(ctx, name, transferPatience); err != nil {
		return err
	}
	return a.verifyObjects(ctx, b, info, jobs)
}

// verifyDestinations reads back what each of several stores has of a backup.
func (a *app) verifyDestinations(ctx context.Context, all []*bucket.Bucket, cat *catalog.Catalog, info *backupinfo.Info) error {
	d, err := cat.Destinations(info.ID)
	if err != nil {
		return err
	}
	for _, one := range d.Lacking() {
		a.warn("not verified: %s lacks the backup: %s", one.URL, one.Behind)
	}
	var first error
	list := []any{}
	for _, b := range bucket.Holding(all, d) {
		a.say("At %s:", b.URL)
		err := a.verifyObjects(ctx, b, info, 0)
		if ctx.Err() != nil {
			return err
		}
		if err != nil {
			err = &fault.Error{Op: "verify", Subject: b.URL, Kind: fault.KindOf(err), Err: err, Hint: fault.HintOf(err)}
			if first != nil {
				a.warn("%v", err)
			} else {
				first = err
			}
		}
		if found, is := a.json[b.Server].(map[string]any); is {
			found["url"] = b.URL
			list = append(list, found)
			delete(a.json, b.Server)
		}
	}
	a.json[info.ServerName] = map[string]any{"backup_id": info.ID, "destinations": list}
	return first
}

// verifyObjects reads back what a store has of a backup.
func (a *app) verifyObjects(ctx context.Context, b *bucket.Bucket, info *backupinfo.Info, jobs int) error {
	meter := &byteMeter{what: "reads back", line: a.liveLine()}
	v, err := b.Verify(ctx, info, cmp.Or(jobs, jobsFrom), meter.show)
	meter.line.clear()
	if ctx.Err() != nil {
		return fault.New(fault.Cancelled, "verify backup", string(info.ID), "it was interrupted")
	}
	if err != nil {
		return err
	}
	a.json[b.Server] = map[string]any{"backup_id": info.ID, "objects": v.Objects, "bytes": v.Bytes, "files": v.Files,
		"damage": append([]string{}, v.Damage...), "not_verified": append([]string{}, v.Unproven...), "unknown_objects": append([]string{}, v.Unknown...)}
	for _, text := range v.Unproven {
		a.warn("not verified: %s", text)
	}
	if len(v.Unknown) > 0 {
		a.warn("objects that no restore uses: %s", join(v.Unknown))
	}
	if err := v.Err(string(info.ID)); err != nil {
		return err
	}
	a.say("Backup %s of server %s was read back: %s, %s, %s.", info.ID, b.Server, count(v.Objects, "object"), report.Size(v.Bytes), count(int(v.Files), "file"))
	return nil
}
