package main

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"runtime"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/holdfast-pg/holdfast/internal/catalog"
	"github.com/holdfast-pg/holdfast/internal/command"
	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/internal/report"
	"github.com/holdfast-pg/holdfast/internal/wal"
	"github.com/holdfast-pg/holdfast/internal/walarchive"
)

func (a *app) cmdDiagnose() *cobra.Command {
	return &cobra.Command{
		Use: "diagnose", Short: "Collect what somebody needs who is to help",
		Long: `Prints, as JSON, the versions of this host's programs, the configuration of all servers,
their backups, what their PostgreSQL servers say, and the newest archived WAL. Passwords
are not in it; names of hosts, users and directories are. What cannot be found out is
null, and says why.`,
		Example: "  holdfast diagnose > diagnosis.json", Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error { return a.diagnose(cmd.Context()) },
	}
}

func (a *app) diagnose(ctx context.Context) error {
	cfg, err := a.config()
	if err != nil {
		return err
	}
	a.format = "json"
	servers := report.Object{}
	replies := askAll(ctx, cfg.Servers())
	for i, s := range cfg.Servers() {
		servers[s.Name] = diagnoseServer(ctx, s, replies[i])
	}
	errorsList := []string{}
	for _, p := range cfg.Problems {
		errorsList = append(errorsList, p.String())
	}
	g := cfg.Global
	a.json["global"] = report.Object{
		"config": report.Object{"barman_home": g.BarmanHome, "barman_lock_directory": g.BarmanLockDirectory, "barman_user": g.BarmanUser, "config_changes_queue": g.ConfigChangesQueue,
			"configuration_files_directory": orNull(g.ConfigurationFilesDirectory), "errors_list": errorsList, "files": cfg.Files, "holdfast_state_directory": g.HoldfastStateDirectory,
			"lock_directory_cleanup": g.LockDirectoryCleanup, "log_file": orNull(g.LogFile), "log_level": g.LogLevel},
		"system_info": systemInfo(ctx),
	}
	models := report.Object{}
	for name, cluster := range cfg.Models() {
		models[name] = report.Object{"cluster": cluster}
	}
	a.json["models"], a.json["servers"] = models, servers
	return nil
}

func diagnoseServer(ctx context.Context, s *config.Server, r reply) report.Object {
	messages := []string{}
	note := func(err error) {
		if err != nil {
			messages = append(messages, err.Error())
		}
	}
	for _, p := range s.Problems() {
		messages = append(messages, p.String())
	}
	backups := report.Object{}
	wals := report.Object{"last_archived_wal_per_timeline": report.Object{}}
	if !s.Disabled() {
		all, warnings, err := catalog.Open(catalog.LayoutOf(s)).List()
		note(err)
		messages = append(messages, warnings...)
		for _, b := range all {
			backups[string(b.ID)] = report.Record(b)
		}
		newest, err := newestWAL(ctx, s)
		note(err)
		wals["last_archived_wal_per_timeline"] = newest
	}
	why := ""
	if r.err != nil {
		why = r.err.Error()
	}
	return report.Object{"active_model": orNull(s.ActiveModel), "backups": backups, "config": report.Settings(s), "msg_list": messages,
		"status": report.Answers(r.facts, r.archiver, why), "wals": wals}
}

// newestWAL is the newest archived segment of each timeline.
func newestWAL(ctx context.Context, s *config.Server) (report.Object, error) {
	newest := map[string]walarchive.Entry{}
	if _, err := os.Stat(catalog.LayoutOf(s).XlogDB()); errors.Is(err, fs.ErrNotExist) {
		return report.Object{}, nil
	}
	archive, err := archiveOf(s)
	if err != nil {
		return report.Object{}, err
	}
	err = archive.Each(ctx, func(e walarchive.Entry) error {
		if wal.Classify(e.Name) == wal.SegmentFile && e.Name >= newest[e.Name[:8]].Name {
			newest[e.Name[:8]] = e
		}
		return nil
	})
	out := report.Object{}
	for timeline, e := range newest {
		out[timeline] = report.Object{"name": e.Name, "size": e.Size, "time": e.Time, "compression": orNull(string(e.Compression)), "encryption": orNull(e.Encryption)}
	}
	return out, err
}

func systemInfo(ctx context.Context) report.Object {
	o := report.Object{"holdfast_ver": version, "go_ver": runtime.Version(), "cpus": runtime.NumCPU(), "timestamp": time.Now().UTC().Format(time.RFC3339Nano),
		"kernel_ver": nil, "release": nil}
	var u unix.Utsname
	if err := unix.Uname(&u); err == nil {
		var parts []string
		for _, field := range [][65]byte{u.Sysname, u.Nodename, u.Release, u.Version, u.Machine} {
			parts = append(parts, unix.ByteSliceToString(field[:]))
		}
		o["kernel_ver"] = strings.Join(parts, " ")
	}
	if text, err := os.ReadFile("/etc/os-release"); err == nil {
		for line := range strings.Lines(string(text)) {
			if name, ok := strings.CutPrefix(line, "PRETTY_NAME="); ok {
				o["release"] = strings.Trim(strings.TrimSpace(name), `"`)
			}
		}
	}
	for key, args := range map[string][]string{"rsync_ver": {"rsync", "--version"}, "pg_basebackup_ver": {"pg_basebackup", "--version"}} {
		o[key] = nil
		path, err := command.Find(args[0], "")
		if err != nil {
			continue
		}
		if out, err := command.Output(ctx, path, args[1:]...); err == nil {
			o[key], _, _ = strings.Cut(out, "\n")
		}
	}
	return o
}

func orNull(s string) any {
	if s == "" {
		return nil
	}
	return s
}
