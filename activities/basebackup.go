package activities

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/holdfast-pg/holdfast/internal/backupinfo"
	"github.com/holdfast-pg/holdfast/internal/basebackup"
	"github.com/holdfast-pg/holdfast/internal/basetar"
	"github.com/holdfast-pg/holdfast/internal/catalog"
	"github.com/holdfast-pg/holdfast/internal/command"
	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/internal/datadir"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/fence"
	"github.com/holdfast-pg/holdfast/internal/gpg"
	"github.com/holdfast-pg/holdfast/internal/pgtool"
	"github.com/holdfast-pg/holdfast/internal/postgres"
)

// BaseBackup copies with pg_basebackup, which cannot resume: it runs detached,
// and whoever comes after a crash re-attaches to it.
type BaseBackup struct {
	Servers Servers
	Connect Connect
}

// CopyBaseBackup fills the backup's data directory and tablespace directories.
func (b *BaseBackup) CopyBaseBackup(ctx context.Context, ref Ref) (Copied, error) {
	s, err := b.Servers.Server(ref.Server)
	if err != nil {
		return Copied{}, report(ctx, err)
	}
	s = ref.Overrides.apply(s)
	c := &baseBackup{settings: s, ref: ref, cat: catalog.Open(catalog.LayoutOf(s)), connect: b.Connect}
	beating, stop := beat(ctx, c.progress)
	defer stop()
	info, err := c.cat.Get(ref.ID)
	if err != nil {
		return Copied{}, final(beating, err)
	}
	guarded, unguard := guardSpace(beating, c.cat.BaseDir, sizeOf(info))
	defer unguard()
	copied, err := c.run(guarded)
	return copied, final(beating, explained(guarded, err, c.cat.BaseDir, sizeOf(info)))
}

// baseBackup is one call of CopyBaseBackup.
type baseBackup struct {
	settings *config.Server
	ref      Ref
	cat      *catalog.Catalog
	connect  Connect
	fence    *fence.Fence
	running  atomic.Pointer[command.Detached]
	trouble  atomic.Pointer[string] // why pg_basebackup waits, in words for people

	encrypting atomic.Bool
	encrypted  atomic.Int64 // bytes
}

func (c *baseBackup) run(ctx context.Context) (Copied, error) {
	var err error
	if c.fence, err = claim(ctx, c.cat, c.ref, 0, true); err != nil {
		return Copied{}, err
	}
	began := time.Now()
	for try := 0; ; try++ {
		err = c.try(ctx, try)
		if err == nil || ctx.Err() != nil || !worthAgain(err) || try >= c.settings.BasebackupRetryTimes {
			break
		}
		select {
		case <-ctx.Done():
			return Copied{}, context.Cause(ctx)
		case <-time.After(c.settings.BasebackupRetrySleep):
		}
	}
	if err != nil {
		return Copied{}, err
	}
	copied := Copied{CopyTime: time.Since(began), Workers: 1}
	info, err := c.cat.Get(c.ref.ID)
	if err != nil {
		return Copied{}, err
	}
	if err := c.describe(ctx, info, &copied); err != nil {
		return Copied{}, err
	}
	copied.Warnings = c.leftOut(info)
	copied.Bytes, copied.DedupBytes, err = catalog.Measure(ctx, c.cat.BackupDirOf(c.ref.ID))
	return copied, err
}

// describe reads the label of a copy, and how the copy is compressed: "" for
// plain files. The files say so, whatever the configuration says meanwhile. It
// encrypts them if they are to be.
func (c *baseBackup) describe(ctx context.Context, info *backupinfo.Info, copied *Copied) error {
	data := c.cat.DataDir(c.ref.ID)
	keys := gpg.Of(c.settings)
	// An earlier run may have encrypted what is no longer to be.
	sealed, err := readSeal(c.cat.WorkDir(c.ref.ID))
	if err != nil {
		return err
	}
	if keys.Encrypts() {
		e := &encrypter{keys: keys, fence: c.fence, data: data, workDir: c.cat.WorkDir(c.ref.ID), progress: func(n int64) { c.encrypted.Add(n) }}
		c.encrypting.Store(true)
		defer c.encrypting.Store(false)
		if sealed, err = e.run(ctx, info); err != nil {
			return err
		}
	}
	tars, err := basetar.Find(data, keys)
	switch {
	case err != nil:
		return err
	case sealed != nil:
		copied.Label = sealed.Label
	case tars != nil:
		copied.Label, err = tars.Label(ctx)
	default:
		var text []byte
		text, err = os.ReadFile(filepath.Join(data, "backup_label"))
		copied.Label, err = string(text), fault.Wrap(fault.Corrupt, "read", "backup_label", err)
	}
	if tars != nil {
		copied.Compression, copied.Encryption = tars.Compression(), tars.Encryption()
	}
	return err
}

// leftOut warns of configuration files that PostgreSQL does not send.
func (c *baseBackup) leftOut(info *backupinfo.Info) []string {
	if c.settings.ExternalConfiguration {
		return nil
	}
	here := place(datadir.Below)
	outside := here.includedOutside(info)
	for _, path := range []*string{info.ConfigFile, info.HBAFile, info.IdentFile} {
		if path != nil && *path != "" && !here.insideData(info, *path) {
			outside = append(outside, *path)
		}
	}
	if len(outside) == 0 {
		return nil
	}
	return []string{"Configuration files outside the data directory are not in the backup: " + strings.Join(outside, ", ") + ". " + lookAfter}
}

// worthAgain reports whether the same command may succeed now.
func worthAgain(err error) bool {
	switch fault.KindOf(err) {
	case fault.Connection, fault.Crashed, fault.Internal:
		return true
	}
	return false
}

// runPrefix begins the names of the directories of detached programs.
const runPrefix = "run-"

// try runs pg_basebackup once, or re-attaches to a run of the same number.
func (c *baseBackup) try(ctx context.Context, n int) error {
	d := command.Attach(filepath.Join(c.cat.WorkDir(c.ref.ID), fmt.Sprintf(runPrefix+"%d-%d", c.ref.Attempt, n)))
	if err := c.fence.Do(func() error {
		if st, err := d.State(); err != nil || st != nil {
			return err
		}
		return c.start(ctx, d)
	}); err != nil {
		return err
	}
	c.running.Store(d)
	var end *ender
	var stuck impasse
	for {
		st, err := d.State()
		if err != nil {
			return err
		}
		if !st.Alive() {
			if err := st.Err("pg_basebackup", basebackup.LastError(d.Tail(8<<10))); err != nil {
				return basebackup.Classify(c.cat.DataDir(c.ref.ID), d.Tail(8<<10), err)
			}
			return nil
		}
		if c.lastWords(d).WaitingForWAL {
			if end == nil {
				end = &ender{connect: c.connect, settings: c.settings, began: time.Now()}
				stuck = impasse{connect: c.connect, conninfo: c.settings.Conninfo.Reveal()}
			}
			trouble := end.ask(ctx, time.Now(), "")
			c.trouble.Store(&trouble)
			if err := stuck.look(ctx, time.Now()); err != nil {
				return kill(ctx, d, err)
			}
		}
		if st.Await(ctx, time.Second); ctx.Err() != nil {
			if cancelled(ctx) || fault.Is(context.Cause(ctx), fault.Disk) {
				return kill(ctx, d, context.Cause(ctx))
			}
			return context.Cause(ctx)
		}
	}
}

// kill ends a program because of an error.
func kill(ctx context.Context, d *command.Detached, why error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	return errors.Join(why, d.Kill(ctx))
}

func (c *baseBackup) start(ctx context.Context, d *command.Detached) error {
	s := c.settings
	program, err := command.Find("pg_basebackup", s.PathPrefix)
	if err != nil {
		return err
	}
	dsn, err := postgres.ParseDSN(s.StreamingConninfo.Reveal())
	if err != nil {
		return fault.New(fault.Config, "read", "streaming_conninfo", "%w", err)
	}
	info, err := c.cat.Get(c.ref.ID)
	if err != nil {
		return err
	}
	o := basebackup.Options{DSN: dsn.String(), Application: s.StreamingBackupName, Dest: c.cat.DataDir(c.ref.ID), MaxRateKB: s.BandwidthLimit, Fast: s.ImmediateCheckpoint}
	if o.Compression, err = compressionOf(ctx, s, program); err != nil {
		return err
	}
	if info.Parent != nil {
		if o.Incremental, err = manifestOf(c.cat, *info.Parent); err != nil {
			return err
		}
	}
	dirs := []string{o.Dest}
	for _, t := range info.Tablespaces {
		dest := c.cat.TablespaceDir(c.ref.ID, t.OID)
		o.Tablespaces = append(o.Tablespaces, basebackup.Tablespace{Location: t.Location, Dest: dest})
		dirs = append(dirs, dest)
	}
	if err := os.Remove(sealPath(c.cat.WorkDir(c.ref.ID))); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fault.Wrap(fault.Internal, "remove", "the seal of an earlier attempt", err)
	}
	if err := basebackup.PrepareDestinations(dirs...); err != nil {
		return err
	}
	lease, err := c.fence.Lease()
	if err != nil {
		return err
	}
	defer lease.Close()
	env := []string{c.fence.Marker()}
	if p, ok := dsn["password"]; ok {
		env = append(env, "PGPASSWORD="+p)
	}
	return d.Start(command.Spec{Path: program, Args: basebackup.Args(o), Env: env, Lease: lease})
}

// compressionOf is what the configuration asks of a pg_basebackup.
func compressionOf(ctx context.Context, s *config.Server, program string) (*basebackup.Compression, error) {
	if s.BackupCompression == "" {
		return nil, nil
	}
	tool, err := pgtool.Version(ctx, program)
	if err != nil {
		return nil, err
	}
	return &basebackup.Compression{Algorithm: s.BackupCompression, Format: s.BackupCompressionFormat, Location: s.BackupCompressionLocation,
		Level: s.BackupCompressionLevel, Workers: s.BackupCompressionWorkers, Tool: tool}, nil
}

func (c *baseBackup) progress() Progress {
	d := c.running.Load()
	if d == nil {
		return Progress{What: "prepares the copy"}
	}
	p := c.lastWords(d)
	if c.encrypting.Load() {
		return Progress{What: "encrypts the copy", Done: c.encrypted.Load()}
	}
	out := Progress{What: p.Describe(), Done: p.DoneKB << 10, Total: p.TotalKB << 10}
	if trouble := c.trouble.Load(); trouble != nil {
		out.Trouble = *trouble
	}
	return out
}

// lastWords is what a pg_basebackup said of its progress in the end.
func (c *baseBackup) lastWords(d *command.Detached) basebackup.Progress {
	return basebackup.ReadProgress(d.Tail(8 << 10))
}
