package main

import (
	"cmp"
	"context"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-pg/holdfast/internal/backup"
	"github.com/holdfast-pg/holdfast/internal/backupinfo"
	"github.com/holdfast-pg/holdfast/internal/bucket"
	"github.com/holdfast-pg/holdfast/internal/catalog"
	"github.com/holdfast-pg/holdfast/internal/combinebackup"
	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/objstore"
	"github.com/holdfast-pg/holdfast/internal/report"
	"github.com/holdfast-pg/holdfast/internal/restore"
	"github.com/holdfast-pg/holdfast/internal/restoreplan"
	"github.com/holdfast-pg/holdfast/internal/window"
)

// fromHelp is what the help of every command with --from says.
const fromHelp = `
With --from URL the backups are those below URL/SERVER in an object store, whoever put
them there, in Barman's layout: URL is what barman-cloud-backup is given before the name
of the server, or basebackups_directory. No configuration is read, nor needed; credentials
come from the environment and the files of the provider, such as ~/.aws/credentials.`

// from says which store a command works on instead of a catalogue of the configuration.
type from struct{ url, endpoint, style string }

// fromFlags adds the options to a command, and refuses those that make no sense together.
func (a *app) fromFlags(cmd *cobra.Command, o *from) {
	f := cmd.Flags()
	f.StringVar(&o.url, "from", "", "work on what is below this `URL`/SERVER in an object store; no configuration is needed")
	f.StringVar(&o.endpoint, "endpoint-url", "", "with --from: `address` of a store that is not the provider's own (default: AWS_ENDPOINT_URL)")
	f.StringVar(&o.style, "addressing-style", "", "with --from: `how` S3 requests name the bucket: auto, path or virtual")
	offer(cmd, "addressing-style", addressingStyles...)
	cmd.PreRunE = func(cmd *cobra.Command, _ []string) error {
		if cmd.Flags().Changed("from") {
			if o.url == "" {
				return fault.New(fault.Usage, "", "", "--from has no URL").WithHint("give one, such as s3://BUCKET/PATH or file:///DIRECTORY")
			}
			a.from = o.url
			return nil
		}
		for _, option := range []string{"endpoint-url", "addressing-style"} {
			if cmd.Flags().Changed(option) {
				return fault.New(fault.Usage, "", "", "--%s belongs to --from", option).WithHint("add --from URL, or leave it out")
			}
		}
		return nil
	}
}

func (o from) given() bool { return o.url != "" }

// transferPatience is for how long the transfer of a backup bears with a store that does not answer.
const transferPatience = 10 * time.Minute

// open opens the store.
func (o from) open(ctx context.Context, patience time.Duration) (objstore.Store, objstore.Location, error) {
	at, err := objstore.ParseURL(o.url)
	if err != nil {
		return nil, at, err
	}
	if o.style != "" && !slices.Contains(addressingStyles, o.style) {
		return nil, at, fault.New(fault.Usage, "read", "--addressing-style "+o.style, "it is auto, path or virtual")
	}
	options := config.CloudOptions{HoldfastEndpointURL: o.endpoint, HoldfastS3AddressingStyle: o.style}
	store, err := openStore(ctx, at, options, &objstore.Policy{Patience: patience})
	return store, at, err
}

// bucket opens what the store has of a server.
func (o from) bucket(ctx context.Context, server string, patience time.Duration) (*bucket.Bucket, error) {
	store, at, err := o.open(ctx, patience)
	if err != nil {
		return nil, err
	}
	return bucket.Open(store, at.String(), server)
}

// listFrom is list-backups of a store.
func (a *app) listFrom(ctx context.Context, names []string, minimal, window bool, o from) error {
	if slices.Contains(names, allServers) {
		store, _, err := o.open(ctx, checkPatience)
		if err != nil {
			return err
		}
		if names, err = bucket.Servers(ctx, store); err != nil {
			return err
		}
	}
	for _, name := range names {
		b, err := o.bucket(ctx, name, checkPatience)
		if err == nil {
			err = a.listBucket(ctx, b, minimal, window)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (a *app) listBucket(ctx context.Context, b *bucket.Bucket, minimal, window bool) error {
	survey, err := b.Survey(ctx)
	if err != nil {
		return err
	}
	a.warnAll(survey.Warnings)
	for _, err := range survey.Unreadable {
		a.warnOf(err)
	}
	if minimal {
		ids := make([]backup.ID, 0, len(survey.Backups))
		for _, info := range slices.Backward(survey.Backups) {
			ids = append(ids, info.ID)
		}
		a.json[b.Server] = ids
		return printLines(a, ids)
	}
	for _, id := range survey.Leftovers {
		a.warn("%s/%s/base/%s has no backup.info: it failed, is being made, or was deleted by half", b.URL, b.Server, id)
	}
	if err := b.Measure(ctx, survey.Backups); err != nil {
		return err
	}
	w, err := b.WAL(ctx, "")
	if err != nil {
		return err
	}
	entries := report.List(survey.Backups, segmentsIn(w), time.Local)
	objects := make([]report.Object, len(entries))
	for i, e := range entries {
		objects[i] = e.JSON()
	}
	a.json[b.Server] = objects
	if err := printLines(a, entries); err != nil || !window {
		return err
	}
	return a.windowIn(ctx, b, survey.Backups, w)
}

// segmentsIn are the listed segments, as reports want them.
func segmentsIn(w *bucket.WAL) report.Segments {
	var all []report.WAL
	w.Each(func(name string, o objstore.Object) {
		all = append(all, report.WAL{Name: name, Size: o.Size, Time: float64(o.Modified.Unix())})
	})
	return report.Sorted(all)
}

// windowIn tells what can be restored.
func (a *app) windowIn(ctx context.Context, b *bucket.Bucket, backups []*backupinfo.Info, w *bucket.WAL) error {
	in := window.Input{Backups: backups, Standalone: map[backup.ID]bool{}, Segments: window.NewSegments(window.SegmentSize(backups)), Histories: w.Histories}
	written := map[string]time.Time{}
	w.Each(func(name string, o objstore.Object) {
		in.Segments.Add(name)
		written[name] = o.Modified
	})
	in.Written = func(name string) time.Time { return written[name] }
	kept, err := b.Kept(ctx, backups)
	if err != nil {
		return err
	}
	for id, target := range kept {
		in.Standalone[id] = target == catalog.KeepStandalone
	}
	result := window.Compute(in)
	a.printWindow(b.Server, report.Recoverable{Zone: time.Local, Backups: backups, Window: &result}.Rows())
	return nil
}

// showFrom is show-backup of a store.
func (a *app) showFrom(ctx context.Context, name, ref string, o from) error {
	b, err := o.bucket(ctx, name, checkPatience)
	if err != nil {
		return err
	}
	survey, err := b.Survey(ctx)
	if err != nil {
		return err
	}
	info, err := b.Choose(survey, ref)
	if err != nil {
		return err
	}
	if err := b.Measure(ctx, []*backupinfo.Info{info}); err != nil {
		return err
	}
	contents, err := b.Contents(ctx, info.ID)
	if err != nil {
		return err
	}
	kept, err := b.Keep(ctx, info.ID)
	if err != nil {
		return err
	}
	w, err := b.WAL(ctx, "")
	if err != nil {
		return err
	}
	all := report.Backup{Info: info, Retention: "not enforced", Segments: segmentsIn(w), Histories: w.Histories,
		Previous: catalog.Before(info.ID, survey.Backups), Next: catalog.After(info.ID, survey.Backups)}
	if all.Chain, err = lineage(info, func(id backup.ID) (*backupinfo.Info, error) { return b.Get(ctx, id) }); err != nil {
		return err
	}
	a.json[b.Server] = all.JSON()
	if a.format == "json" || a.quiet {
		return nil
	}
	rows := []report.Row{{Label: "URL", Value: b.URL + "/" + b.Server + "/base/" + string(info.ID)},
		{Label: "Objects", Value: count(len(contents.Keys), "object")}, {Label: "Kept", Value: string(kept)},
		{Label: "Not of a backup", Value: join(contents.Unknown)}}
	return report.WriteSections(a.stdout, "Backup "+string(info.ID), append(all.Sections(), report.Section{Title: "Store information", Rows: rows}))
}

// jobsFrom is how many objects are transferred at once, unless --jobs says it.
const jobsFrom = 4

// restoreFrom is restore from a store.
func (a *app) restoreFrom(ctx context.Context, o restoreOptions) error {
	began := time.Now()
	if o.getWAL {
		return fault.New(fault.Usage, "read", "--get-wal", "this version cannot let PostgreSQL fetch WAL from a store").
			WithHint("leave it out: the WAL is copied now")
	}
	req, err := a.readRequest(o)
	if err != nil {
		return err
	}
	b, err := o.from.bucket(ctx, o.server, checkPatience)
	if err != nil {
		return err
	}
	info, err := b.Resolve(ctx, o.backup)
	if err != nil {
		return err
	}
	if b, err = o.from.bucket(ctx, o.server, transferPatience); err != nil { // it is there: now it is worth waiting for
		return err
	}
	parts, err := b.Chain(ctx, info)
	if err != nil {
		return err
	}
	req.Parents = parts[:len(parts)-1]
	plan, src, err := planFrom(ctx, b, parts, req)
	if err != nil {
		return err
	}
	opt := restore.Options{Jobs: cmp.Or(o.jobs, jobsFrom), Combine: restore.Combine{Mode: cmp.Or(o.combineMode, combinebackup.Copy), Staging: o.stagingPath}}
	if err := a.howToCombine(ctx, &opt.Combine, "", src); err != nil {
		return err
	}
	res, err := a.runRestore(ctx, src, plan, opt)
	if err != nil {
		return err
	}
	a.tellRestore(b.Server, info, plan, res, began)
	if os.Geteuid() == 0 {
		a.warn("the files belong to root, as whom PostgreSQL does not run: chown -R postgres %s", restored(plan))
	}
	return nil
}

// restored are the directories that a plan makes, for a shell.
func restored(plan *restoreplan.Plan) string {
	dirs := []string{restoreplan.ShellWord(plan.Dest)}
	for _, t := range plan.Tablespaces {
		dirs = append(dirs, restoreplan.ShellWord(t.Dest))
	}
	return strings.Join(dirs, " ")
}

// planFrom looks at the objects and at the WAL of a backup, the last of parts.
func planFrom(ctx context.Context, b *bucket.Bucket, parts []*backupinfo.Info, req restoreplan.Request) (*restoreplan.Plan, restore.Source, error) {
	var sources []restore.Source
	since := ""
	info := parts[len(parts)-1]
	if info.BeginWAL != nil {
		since = *info.BeginWAL
	}
	w, err := b.WAL(ctx, since)
	if err != nil {
		return nil, restore.Source{}, err
	}
	plan, err := restoreplan.Make(info, req, w.ForRestore())
	if err != nil {
		return nil, restore.Source{}, err
	}
	for _, part := range parts {
		objects, err := b.Restorable(ctx, part)
		if err != nil {
			return nil, restore.Source{}, err
		}
		sources = append(sources, restore.Source{Info: part, Objects: objects})
	}
	src := sources[len(sources)-1]
	src.WAL, src.Parents = w, sources[:len(sources)-1]
	return plan, src, nil
}

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

// keepFrom is keep in a store.
func (a *app) keepFrom(ctx context.Context, name, ref string, o keepOptions) error {
	b, err := o.from.bucket(ctx, name, checkPatience)
	if err != nil {
		return err
	}
	info, err := b.Resolve(ctx, ref)
	if err != nil {
		return err
	}
	switch {
	case o.status:
		kept, err := b.Keep(ctx, info.ID)
		if err == nil {
			a.tellKept(b.Server, kept)
		}
		return err
	case o.release:
		if err := b.Release(ctx, info.ID); err != nil {
			return err
		}
		a.say("Backup %s of server %s is left to the retention policy.", info.ID, b.Server)
		return nil
	}
	if err := b.SetKeep(ctx, info.ID, catalog.KeepTarget(o.target)); err != nil {
		return err
	}
	a.say("Backup %s of server %s is kept (%s).", info.ID, b.Server, o.target)
	return nil
}

// deleteFrom is delete in a store.
func (a *app) deleteFrom(ctx context.Context, name string, refs []string, o from) error {
	b, err := o.bucket(ctx, name, checkPatience)
	if err != nil {
		return err
	}
	survey, err := b.Survey(ctx)
	if err != nil {
		return err
	}
	var ids []backup.ID
	for _, ref := range refs {
		if slices.Contains(survey.Leftovers, backup.ID(ref)) {
			ids = append(ids, backup.ID(ref))
			continue
		}
		info, err := b.Choose(survey, ref)
		if err != nil {
			return err
		}
		ids = append(ids, info.ID)
	}
	done, err := b.Delete(ctx, ids, time.Now())
	if done != nil {
		a.tellDeletion(b.Server, done.Plan, done.Deleted, done.Files)
	}
	if err != nil && ctx.Err() != nil {
		return fault.New(fault.Cancelled, "delete backups of", b.Server, "it was interrupted; what was begun is listed as FAILED").
			WithHint("give the command again")
	}
	return err
}
