package main

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/holdfast-pg/holdfast/activities"
	"github.com/holdfast-pg/holdfast/internal/backup"
	"github.com/holdfast-pg/holdfast/internal/backupinfo"
	"github.com/holdfast-pg/holdfast/internal/bucket"
	"github.com/holdfast-pg/holdfast/internal/catalog"
	"github.com/holdfast-pg/holdfast/internal/check"
	"github.com/holdfast-pg/holdfast/internal/command"
	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/gpg"
	"github.com/holdfast-pg/holdfast/internal/objstore"
	"github.com/holdfast-pg/holdfast/internal/objstore/drivers"
	"github.com/holdfast-pg/holdfast/internal/pg"
	"github.com/holdfast-pg/holdfast/internal/pgtool"
	"github.com/holdfast-pg/holdfast/internal/postgres"
	"github.com/holdfast-pg/holdfast/internal/report"
	"github.com/holdfast-pg/holdfast/internal/rsync"
	"github.com/holdfast-pg/holdfast/internal/snapshot"
	"github.com/holdfast-pg/holdfast/internal/snapshot/providers"
	"github.com/holdfast-pg/holdfast/internal/ssh"
	"github.com/holdfast-pg/holdfast/internal/wal"
	"github.com/holdfast-pg/holdfast/internal/walarchive"
	"github.com/holdfast-pg/holdfast/internal/walreceive"
)

// gather collects the facts that a check decides from, and changes nothing.
// State is the directory of what outlives a process.
func gather(ctx context.Context, s *config.Server, state string, timeout time.Duration) check.Facts {
	began := time.Now()
	if timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	f := check.Facts{Settings: check.Settings{
		Method: s.BackupMethod, Archiver: s.Archiver, Streaming: s.StreamingArchiver, Slot: s.SlotName, Exclusive: s.Exclusive, Inactive: !s.Active || s.Passive,
		Retention: s.RetentionPolicy.String(), Compression: s.Compression, Redundancy: s.MinimumRedundancy,
		MaxAge: s.LastBackupMaximumAge, MinSize: int64(s.LastBackupMinimumSize), MaxWALAge: s.LastWALMaximumAge, MaxQueue: s.MaxIncomingWALsQueue, WALWait: s.HoldfastWALWait,
	}}
	for _, p := range s.Problems() {
		if !p.Warning {
			f.Errors = append(f.Errors, p.String())
		}
	}
	if !s.Disabled() {
		// The server comes last: one that is silent uses up the time.
		f.Store = lookIntoStore(ctx, s)
		if !f.Settings.Inactive {
			for _, p := range s.UnsupportedForBackup() {
				f.Errors = append(f.Errors, p.String())
			}
			f.Local = lookForTools(ctx, s)
			if s.StreamingArchiver {
				lookAtReceiver(ctx, s, state, &f)
			}
			f.Postgres = askPostgres(ctx, s)
			if f.Local.BaseMajor > 0 && f.Postgres.Facts.Version > 0 {
				for _, p := range s.CompressionProblems(f.Local.BaseMajor, postgres.Major(f.Postgres.Facts.Version)) {
					f.Errors = append(f.Errors, p.String())
				}
			}
			switch s.BackupMethod {
			case config.MethodLocalRsync:
				f.Local.PGDataErr = lookIntoCluster(f.Postgres.Facts.DataDirectory)
			case config.MethodLocalToCloud:
				f.Local.PGDataErr = lookIntoCluster(f.Postgres.Facts.DataDirectory)
				f.Local.Replicas, f.Local.CloudErr = probeStores(ctx, s)
			case config.MethodSnapshot:
				_, f.Local.CloudErr = probeStores(ctx, s)
				lookAtDisks(ctx, s, &f)
			case config.MethodRsync:
				f.Local.SSH = logIn(ctx, s, f.Postgres.Facts.DataDirectory, f.Store.Backups)
			}
		}
		var err error
		if f.Schedule, err = scheduleReport(catalog.Open(catalog.LayoutOf(s)), began); err != nil {
			f.Errors = append(f.Errors, err.Error())
		}
	} else {
		f.Settings.Inactive = true
	}
	f.Now = time.Now()
	f.Settings.TimeoutPassed = timeout > 0 && f.Now.Sub(began) >= timeout
	return f
}

// probeStores asks the object stores that backups go to.
func probeStores(ctx context.Context, s *config.Server) (replicas []check.Replica, main error) {
	all, err := bucket.All(ctx, s, drivers.Open, func() *objstore.Policy { return &objstore.Policy{Patience: checkPatience} })
	if err != nil || all == nil { // a configuration without a URL is a problem of its own
		return nil, err
	}
	errs := make([]error, len(all))
	_ = objstore.Each(ctx, len(all), func(ctx context.Context, i int) error {
		errs[i] = all[i].Reach(ctx)
		return nil
	})
	for i, b := range all[1:] {
		replicas = append(replicas, check.Replica{URL: b.URL, Err: errs[i+1]})
	}
	return replicas, errs[0]
}

func askPostgres(ctx context.Context, s *config.Server) check.Postgres {
	var p check.Postgres
	if s.BackupMethod == config.MethodPostgres || s.StreamingArchiver {
		p.StreamID, p.Streaming = pg.IdentifySystem(ctx, s.StreamingConninfo.Reveal())
	}
	c, err := pg.Connect(ctx, s.Conninfo.Reveal())
	if err != nil {
		p.Err = err
		return p
	}
	defer c.Close()
	if p.Facts, p.Err = c.Facts(ctx); p.Err != nil {
		return p
	}
	p.Privileges = c.CheckPrivileges(ctx)
	if p.Archiver, p.Err = c.Archiver(ctx); p.Err == nil && s.StreamingArchiver && s.SlotName != "" {
		p.Slot, p.SlotErr = slotAt(ctx, s)
	}
	if sql, streaming := s.WALSource(); s.StreamingArchiver && sql.Reveal() != s.Conninfo.Reveal() {
		p.WAL = askWALSource(ctx, sql.Reveal(), streaming.Reveal())
	}
	if !s.PrimaryConninfo.IsZero() {
		p.Primary = &check.Primary{}
		p.Primary.Facts, p.Primary.Err = factsOf(ctx, s.PrimaryConninfo.Reveal())
	}
	return p
}

func factsOf(ctx context.Context, conninfo string) (postgres.Facts, error) {
	c, err := pg.Connect(ctx, conninfo)
	if err != nil {
		return postgres.Facts{}, err
	}
	defer c.Close()
	return c.Facts(ctx)
}

// askWALSource asks where WAL is streamed from for what streaming needs.
func askWALSource(ctx context.Context, sql, streaming string) *check.WALSource {
	w := &check.WALSource{}
	c, err := pg.Connect(ctx, sql)
	if err != nil {
		w.Err = err
		return w
	}
	defer c.Close()
	if w.WALLevel, w.SystemID, w.Err = c.WALSource(ctx); w.Err != nil {
		return w
	}
	w.Monitoring = c.CheckMonitoring(ctx)
	w.StreamID, w.Streaming = pg.IdentifySystem(ctx, streaming)
	return w
}

// slotAt looks for the slot of a server where its WAL is streamed from.
func slotAt(ctx context.Context, s *config.Server) (*postgres.Slot, error) {
	sql, _ := s.WALSource()
	c, err := pg.Connect(ctx, sql.Reveal())
	if err != nil {
		return nil, err
	}
	defer c.Close()
	return c.Slot(ctx, s.SlotName)
}

// lookAtReceiver finds out whether WAL is streamed, and could be.
func lookAtReceiver(ctx context.Context, s *config.Server, state string, f *check.Facts) {
	_, f.Local.ReceiveMajor, f.Local.ReceiveErr = walreceive.Find(ctx, s.PathPrefix)
	r := walreceive.Of(s, state)
	var err error
	if _, f.Store.Receiving, err = r.Process(); err != nil {
		f.Store.Directories = append(f.Store.Directories, err)
	}
	f.Store.Stopped, f.Local.Received = r.Forbidden(), r.Failure()
}

// lookForTools finds out whether this host has the program that the method needs.
func lookForTools(ctx context.Context, s *config.Server) check.Local {
	var l check.Local
	if keys := gpg.Of(s); keys.Encrypts() {
		l.Encrypts, l.EncryptErr = true, keys.Try(ctx)
	}
	switch s.BackupMethod {
	case config.MethodLocalRsync, config.MethodRsync:
		_, l.RsyncErr = rsync.Find(ctx, s.PathPrefix)
	case config.MethodPostgres:
		l.BaseMajor, l.BaseErr = baseBackupVersion(ctx, s)
	}
	return l
}

// lookAtDisks finds out whether the disks are there and hold the whole cluster.
func lookAtDisks(ctx context.Context, s *config.Server, f *check.Facts) {
	d := &f.Local.Disks
	d.Far = s.SnapshotInstance != config.Localhost
	disks, err := providers.Open(ctx, s)
	if ssh.IsNoise(err) {
		f.Local.SSH.NoiseErr = err
	} else if d.Far {
		f.Local.SSH.LoginErr = err
	}
	if d.InstanceErr = err; err != nil {
		return
	}
	defer disks.Close()
	if cloud, is := disks.Provider.(snapshot.Instance); is {
		if _, d.InstanceErr = cloud.Attached(ctx, s.SnapshotInstance); d.InstanceErr != nil {
			return
		}
	}
	listed, err := disks.Disks(ctx)
	if errors.Is(err, snapshot.ErrUnmounted) {
		d.LayoutKnown, d.LayoutErr = true, err
		return
	}
	if err == nil {
		_, err = disks.List(ctx, snapshot.OwnerOf(s))
	}
	d.MissingErr, d.LayoutKnown = err, f.Postgres.Facts.DataDirectory != ""
	if err == nil && d.LayoutKnown {
		d.LayoutErr = activities.CheckLayout(ctx, disks, listed, f.Postgres.Facts)
	}
}

// lookIntoCluster finds out whether the cluster's files can be read here.
func lookIntoCluster(dataDirectory string) error {
	if dataDirectory == "" {
		return fault.New(fault.Connection, "find", "the data directory", "PostgreSQL does not say where it is")
	}
	control := filepath.Join(dataDirectory, "global", "pg_control")
	f, err := os.Open(control)
	if err == nil {
		err = f.Close()
	}
	return fault.Wrap(fault.Internal, "read the cluster's files", control, err)
}

// logIn asks the host of the cluster for what a copy needs.
func logIn(ctx context.Context, s *config.Server, dataDirectory string, backups []*backupinfo.Info) (out check.SSH) {
	link, err := ssh.Open(ctx, s.SSHCommand)
	if ssh.IsNoise(err) {
		out.NoiseErr = err
		return out
	}
	if err != nil {
		out.LoginErr = err
		return out
	}
	defer link.Close()
	if dataDirectory != "" {
		out.HostErr = rsync.CheckHost(ctx, link, dataDirectory)
		return out
	}
	for _, b := range backups {
		if b.PGData != nil {
			dataDirectory = *b.PGData
		}
	}
	if dataDirectory != "" {
		out.Labelled = link.Run(ctx, "[ -e "+ssh.Quote(filepath.Join(dataDirectory, "backup_label"))+" ]", io.Discard) == nil
	}
	return out
}

func baseBackupVersion(ctx context.Context, s *config.Server) (int, error) {
	path, err := command.Find("pg_basebackup", s.PathPrefix)
	if err != nil {
		return 0, err
	}
	return pgtool.Version(ctx, path)
}

func lookIntoStore(ctx context.Context, s *config.Server) check.Store {
	var st check.Store
	l := catalog.LayoutOf(s)
	for _, dir := range []string{l.BackupDir, l.BaseDir, l.MetaDir, l.WALDir, l.XlogDBDir, l.IncomingDir, l.StreamingDir, l.ErrorsDir, l.LockDir} {
		if dir == "" { // WAL is in a bucket
			continue
		}
		if err := writable(dir); err != nil {
			st.Directories = append(st.Directories, err)
		}
	}
	cat := catalog.Open(l)
	backups, warnings, err := cat.List()
	if err != nil {
		st.Directories = append(st.Directories, err)
	}
	for _, w := range warnings {
		st.Directories = append(st.Directories, errors.New(w))
	}
	st.Backups = backups
	lacked, err := behind(cat, backups)
	if err != nil {
		st.Directories = append(st.Directories, err)
	}
	st.Behind = len(lacked)
	if id, err := cat.Identity(); err != nil {
		st.Directories = append(st.Directories, err)
	} else if id != nil {
		st.Identity = id.SystemID
	}
	if err := lookIntoArchive(ctx, s, &st); err != nil {
		st.Directories = append(st.Directories, err)
	}
	st.Incoming, st.InStreaming, st.Rejected = waiting(l.IncomingDir), waiting(l.StreamingDir), waiting(l.ErrorsDir)
	return st
}

// behind are the complete backups that one of several destinations lacks.
func behind(cat *catalog.Catalog, backups []*backupinfo.Info) (out []backup.ID, err error) {
	for _, b := range backups {
		d, err := cat.Destinations(b.ID)
		if err != nil {
			return out, err
		}
		if b.Status == backup.Done && len(d.Lacking()) > 0 {
			out = append(out, b.ID)
		}
	}
	return out, nil
}

// writable makes sure, without writing, that a directory can be used. One that
// the first backup can create is no problem.
func writable(dir string) error {
	for place := dir; ; place = filepath.Dir(place) {
		err := unix.Access(place, unix.W_OK|unix.X_OK)
		if errors.Is(err, fs.ErrNotExist) && place != "/" {
			continue
		}
		if err == nil {
			return nil
		}
		return fault.New(fault.Permission, "write to", dir, "%s: %w", place, err).
			WithHint("give the directory to the user that runs holdfast (barman_user)")
	}
}

// lookIntoArchive reads the list of WAL and the archive itself, and keeps of
// the list what came after the last backup.
func lookIntoArchive(ctx context.Context, s *config.Server, st *check.Store) error {
	archive, err := archiveOf(s)
	if err != nil {
		return err
	}
	end := ""
	for _, b := range st.Backups {
		if b.Status.CopyDone() && b.EndWAL != nil {
			end = *b.EndWAL
		}
	}
	var after []report.WAL
	if err := archive.Each(ctx, func(e walarchive.Entry) error {
		st.Listed = true
		if e.Name > end {
			after = append(after, report.WAL{Name: e.Name, Size: e.Size, Time: e.Time})
		}
		return nil
	}); err != nil {
		return err
	}
	for _, w := range report.Sorted(after) {
		st.WALAfter += w.Size
		st.LastWAL = time.Unix(int64(w.Time), 0)
	}
	w, err := recoverable(ctx, s, archive, st.Backups)
	if err == nil {
		st.Gaps, st.Lacking = w.Gaps(), w.Lacking
	}
	return err
}

// waiting counts the finished files of a directory.
func waiting(dir string) int {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return 0
	}
	n := 0
	for _, e := range entries {
		name := e.Name()
		if !e.IsDir() && !strings.HasPrefix(name, ".") && !strings.HasSuffix(name, ".tmp") && wal.Classify(name) != wal.PartialFile {
			n++
		}
	}
	return n
}
