package restoreplan

import (
	"fmt"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/holdfast-pg/holdfast/internal/backupinfo"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/wal"
)

const op = "restore"

// Target is where recovery stops. The zero value is the end of the archived WAL.
type Target struct {
	Time      time.Time // recovery_target_time; zero for none
	LSN       wal.LSN   // recovery_target_lsn; zero for none
	Immediate bool      // recovery_target = 'immediate'
	Timeline  string    // a number, "current", "latest", or "" for latest
	Action    string    // pause, shutdown, promote, or "" for PostgreSQL's default
}

// PointInTime reports whether the target names a moment.
func (t Target) PointInTime() bool {
	return !t.Time.IsZero() || t.LSN != 0 || t.Immediate || t.Timeline != ""
}

// Request is what the user asked for.
type Request struct {
	Dest        string
	Tablespaces map[string]string  // tablespace name to new directory
	GetWAL      bool               // fetch WAL through restore_command instead of copying it
	RestoreWith string             // the restore_command used with GetWAL
	Parents     []*backupinfo.Info // what an incremental backup builds on
	Standby     bool
	Mounted     bool // disks that were made of the backup's snapshots are mounted where its were
	Target      Target
}

// WALFile is one file of the archive, as xlog.db knows it.
type WALFile struct {
	Name string
	At   time.Time // when it was last written on the source
}

// Archive is what the WAL archive holds.
type Archive struct {
	Files     []WALFile
	Histories map[uint32]wal.History
}

// Tablespace is one tablespace directory to rebuild.
type Tablespace struct {
	OID  uint32
	Name string
	Dest string
}

// Plan is what a restore will do.
type Plan struct {
	Dest        string
	Tablespaces []Tablespace
	WAL         []string // files to copy, in order of name
	WALDir      string   // relative to Dest
	MarkDone    bool     // write archive_status/<name>.done for each copied file
	Settings    []string // lines appended to postgresql.auto.conf
	Signal      string   // recovery.signal, standby.signal or ""
	Timeline    uint32   // the timeline that recovery follows
	Notes       []string // what the user should know
}

// PlainWALDir and RecoveryWALDir are where copied WAL goes without and with a
// recovery configuration (Barman uses the same names).
const (
	PlainWALDir    = "pg_wal"
	RecoveryWALDir = "barman_wal"
)

// Make plans the restore of one backup, or says why it cannot be done.
func Make(b *backupinfo.Info, req Request, arch Archive) (*Plan, error) {
	for _, one := range append(slices.Clone(req.Parents), b) {
		if err := usable(one, req.Mounted); err != nil {
			return nil, err
		}
	}
	p := &Plan{Dest: filepath.Clean(req.Dest), WALDir: PlainWALDir}
	var err error
	if p.Tablespaces, err = relocate(b, req.Tablespaces, req.Mounted); err != nil {
		return nil, err
	}
	if err := p.checkPaths(); err != nil {
		return nil, err
	}
	if p.Timeline, err = timeline(b, req.Target.Timeline, arch); err != nil {
		return nil, err
	}
	files, err := p.chooseWAL(b, req, arch)
	if err != nil {
		return nil, err
	}
	// Without a recovery configuration PostgreSQL stays on the backup's timeline.
	configured := req.Target.PointInTime() || req.GetWAL || req.Standby || p.Timeline != *b.Timeline
	if !req.GetWAL {
		p.WAL = files
		p.MarkDone = !configured
		if configured {
			p.WALDir = RecoveryWALDir
		}
	}
	if configured {
		p.configure(req, arch)
	}
	return p, nil
}

func usable(b *backupinfo.Info, mounted bool) error {
	id := string(b.ID)
	refuse := func(format string, args ...any) error {
		return fault.New(fault.Refused, op, id, format, args...).
			WithHint("choose another one (holdfast list-backups %s), or restore this one with barman restore", b.ServerName)
	}
	if !b.Status.CopyDone() {
		return fault.New(fault.Refused, op, id, "the backup is %s, only DONE and WAITING_FOR_WALS ones can be restored", b.Status).
			WithHint("choose another one: holdfast list-backups %s", b.ServerName)
	}
	switch {
	case b.Snapshots != nil && !mounted:
		return fault.New(fault.Refused, op, id, "it consists of snapshots of disks").
			WithHint("on the instance that has disks made of them: holdfast restore %s %s DATADIR --snapshot-recovery-instance INSTANCE", b.ServerName, id)
	case b.Encryption != nil && !slices.Contains([]string{"none", "gpg"}, *b.Encryption):
		return refuse("it is encrypted with %s; this version decrypts what gpg encrypted", *b.Encryption)
	case b.Compression != nil && !slices.Contains([]string{"none", "gzip", "lz4", "zstd"}, *b.Compression):
		return refuse("it is compressed with %s; this version restores tar files of gzip, lz4 and zstd", *b.Compression)
	case b.BeginWAL == nil || b.EndWAL == nil || b.Timeline == nil || b.BeginLSN == nil || b.EndLSN == nil:
		return refuse("its backup.info lacks the begin or end of its WAL")
	case b.Version != nil && *b.Version < 120000:
		return refuse("it is of PostgreSQL %d; recovery is configured for PostgreSQL 12 and later only", *b.Version/10000)
	}
	return nil
}

// relocate says where each tablespace goes. One of allow_in_place_tablespaces, a developer's option, has a path below
// the data directory, which is there on disks that are mounted, and has no place of its own otherwise.
func relocate(b *backupinfo.Info, moved map[string]string, mounted bool) ([]Tablespace, error) {
	var out []Tablespace
	known := map[string]bool{}
	for _, t := range b.Tablespaces {
		known[t.Name] = true
		dest := t.Location
		if d, ok := moved[t.Name]; ok {
			if !filepath.IsAbs(d) {
				return nil, fault.New(fault.Usage, op, "--tablespace "+t.Name+":"+d, "the directory is not an absolute path")
			}
			dest = d
		}
		if !filepath.IsAbs(dest) {
			if mounted {
				continue
			}
			return nil, fault.New(fault.Usage, op, string(b.ID), "tablespace %s was made in place (%s), below the data directory", t.Name, dest).
				WithHint("give it a directory of its own: --tablespace %s:DIR", t.Name)
		}
		out = append(out, Tablespace{OID: t.OID, Name: t.Name, Dest: filepath.Clean(dest)})
	}
	var names []string
	for name := range moved {
		if !known[name] {
			names = append(names, name)
		}
	}
	if len(names) > 0 {
		sort.Strings(names)
		have := "has no tablespaces"
		if len(out) > 0 {
			var all []string
			for _, t := range out {
				all = append(all, t.Name)
			}
			have = "has " + strings.Join(all, ", ")
		}
		return nil, fault.New(fault.Usage, op, "--tablespace "+names[0], "backup %s %s", b.ID, have)
	}
	return out, nil
}

// checkPaths refuses directories that lie in each other; only a tablespace
// that lay inside the data directory may lie there again.
func (p *Plan) checkPaths() error {
	for i, t := range p.Tablespaces {
		if within(p.Dest, t.Dest) {
			return fault.New(fault.Usage, op, t.Dest, "tablespace %s would contain the destination %s", t.Name, p.Dest).
				WithHint("give it another directory: --tablespace %s:DIR", t.Name)
		}
		for _, u := range p.Tablespaces[:i] {
			if within(t.Dest, u.Dest) || within(u.Dest, t.Dest) {
				return fault.New(fault.Usage, op, t.Dest, "tablespaces %s and %s would share a directory", u.Name, t.Name).
					WithHint("give each a directory of its own with --tablespace NAME:DIR")
			}
		}
	}
	return nil
}

// within reports whether path is dir or lies below it, by path components.
func within(path, dir string) bool {
	rel, err := filepath.Rel(dir, path)
	return err == nil && rel != ".." && !strings.HasPrefix(rel, "../")
}

func timeline(b *backupinfo.Info, want string, arch Archive) (uint32, error) {
	latest := *b.Timeline
	for tli, h := range arch.Histories {
		if tli > latest && h.Contains(*b.Timeline, *b.EndLSN) {
			latest = tli
		}
	}
	switch want {
	case "", "latest":
		return latest, nil
	case "current":
		return *b.Timeline, nil
	}
	var n uint32
	if _, err := fmt.Sscanf(want, "%d", &n); err != nil || n == 0 || fmt.Sprint(n) != want {
		return 0, fault.New(fault.Usage, op, "--target-tli "+want, "a timeline is a number, current or latest")
	}
	if n == *b.Timeline {
		return n, nil
	}
	h, ok := arch.Histories[n]
	if !ok {
		return 0, fault.New(fault.Refused, op, "--target-tli "+want, "the archive has no history file of timeline %d", n).
			WithHint("timelines that backup %s can reach: %s", b.ID, reachable(b, arch))
	}
	if !h.Contains(*b.Timeline, *b.EndLSN) {
		return 0, fault.New(fault.Refused, op, "--target-tli "+want, "timeline %d left timeline %d before the end of backup %s (%s)", n, *b.Timeline, b.ID, *b.EndLSN).
			WithHint("timelines that this backup can reach: %s; or restore an older backup", reachable(b, arch))
	}
	return n, nil
}

func reachable(b *backupinfo.Info, arch Archive) string {
	list := []int{int(*b.Timeline)}
	for tli, h := range arch.Histories {
		if tli != *b.Timeline && h.Contains(*b.Timeline, *b.EndLSN) {
			list = append(list, int(tli))
		}
	}
	sort.Ints(list)
	return strings.Trim(strings.Join(strings.Fields(fmt.Sprint(list)), ", "), "[]")
}

// configure fills the recovery settings (PostgreSQL manual, "Archive Recovery"
// and "Recovery Target").
func (p *Plan) configure(req Request, arch Archive) {
	set := func(name, value string) { p.Settings = append(p.Settings, name+" = "+quote(value)) }
	switch {
	case req.GetWAL:
		set("restore_command", req.RestoreWith)
	default:
		dir := filepath.Join(p.Dest, p.WALDir)
		set("restore_command", "cp "+ShellWord(dir)+"/%f \"%p\"")
		if !req.Standby {
			set("recovery_end_command", "rm -fr "+ShellWord(dir))
		}
	}
	t := req.Target
	switch {
	case !t.Time.IsZero():
		set("recovery_target_time", t.Time.Format("2006-01-02 15:04:05.999999-07:00"))
	case t.LSN != 0:
		set("recovery_target_lsn", t.LSN.String())
	case t.Immediate:
		set("recovery_target", "immediate")
	}
	set("recovery_target_timeline", p.follow(req, arch))
	if t.Action != "" {
		set("recovery_target_action", t.Action)
	}
	p.Signal = "recovery.signal"
	if req.Standby {
		p.Signal = "standby.signal"
	}
}

// follow is the timeline setting. PostgreSQL's "latest" is the highest number in
// the archive, whether it descends from the backup or not, and fails when it does
// not; only a standby, which shall follow later timelines too, is told so.
func (p *Plan) follow(req Request, arch Archive) string {
	if !req.Standby || req.Target.Timeline != "" && req.Target.Timeline != "latest" {
		return fmt.Sprint(p.Timeline)
	}
	for tli := range arch.Histories {
		if tli > p.Timeline {
			p.Notes = append(p.Notes, fmt.Sprintf("timeline %d of the archive does not descend from this backup: the standby stays on timeline %d", tli, p.Timeline))
			return fmt.Sprint(p.Timeline)
		}
	}
	return "latest"
}

// quote writes a value of a configuration file (PostgreSQL manual, "Parameter
// Names and Values").
func quote(s string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `''`).Replace(s) + "'"
}

// ShellWord writes a word of restore_command and its like: quoted for the
// shell, and with percent signs that PostgreSQL does not take for place holders.
func ShellWord(s string) string {
	return "'" + strings.NewReplacer("'", `'\''`, "%", "%%").Replace(s) + "'"
}
