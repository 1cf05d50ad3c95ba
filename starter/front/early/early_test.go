package early_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-pg/holdfast/internal/wal"
	"github.com/holdfast-pg/holdfast/internal/walspool/handout"
	"github.com/holdfast-pg/holdfast/internal/waltest"
)

const mib = 1 << 20

func segment(n int) wal.Segment { return wal.Segment{TLI: 1, No: uint64(n), Size: mib} }

func name(n int) string { return segment(n).Name() }

func content(n int) []byte { return waltest.Segment(segment(n), 0, name(n)) }

// bench is an archive of six segments, a server that archives them and one that recovers.
type bench struct {
	t             *testing.T
	program, dir  string
	server, cwd   string
	env           []string
	wal, recovery string
}

// newBench has the configuration written before a second passed.
func newBench(t *testing.T, program string) *bench {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "a place with 'blanks'")
	b := &bench{t: t, program: program, dir: dir, server: "main", cwd: dir, wal: filepath.Join(dir, "pg_wal"), recovery: filepath.Join(dir, "recovery")}
	for _, d := range []string{"bucket", "home/main", "conf.d", "pg_wal/archive_status", "recovery"} {
		b.must(os.MkdirAll(filepath.Join(dir, d), 0o700))
	}
	who, err := user.Current()
	b.must(err)
	b.must(os.WriteFile(b.config(), fmt.Appendf(nil, `[barman]
barman_home = %[1]s/home
barman_user = %[2]s
configuration_files_directory = %[1]s/conf.d
[main]
description = test
backup_method = local-to-cloud
conninfo = host=localhost
basebackups_directory = file:///tmp/unused
wals_directory = file://%[1]s/bucket
cloud_wal_archive_parallel = 3
cloud_wal_restore_parallel = 3
[standby]
model = true
cluster = main
description = another
[other]
description = test
backup_method = local-to-cloud
conninfo = host=localhost
basebackups_directory = file:///tmp/unused
wals_directory = file://%[1]s/bucket
`, dir, who.Username), 0o600))
	for n := 1; n <= 6; n++ {
		b.must(errors.Join(os.WriteFile(filepath.Join(b.wal, name(n)), content(n), 0o600),
			os.WriteFile(filepath.Join(b.wal, "archive_status", name(n)+".ready"), nil, 0o600)))
	}
	return b
}

func (b *bench) config() string { return filepath.Join(b.dir, "holdfast's.conf") }

func (b *bench) must(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

// start tells whether the program answered before most of it was initialized.
func (b *bench) start(args ...string) (early bool, err error) {
	cmd := exec.Command(b.program, append([]string{"-c", b.config()}, args...)...)
	cmd.Dir = b.cwd
	cmd.Env = append(append(os.Environ(), "GODEBUG=inittrace=1"), b.env...)
	said, err := cmd.CombinedOutput()
	if err != nil {
		_, message, _ := strings.Cut(string(said), "ERROR")
		err = fmt.Errorf("%w: %s", err, message)
	}
	return !strings.Contains(string(said), "init github.com/aws/aws-sdk-go-v2/service"), err
}

func (b *bench) archive(n int, early bool) {
	b.t.Helper()
	if got, err := b.start("wal-archive", b.server, filepath.Join(b.wal, name(n))); err != nil || got != early {
		b.t.Errorf("archiving %d: early is %v, %v", n, got, err)
	}
}

func (b *bench) fetch(n int, early bool) {
	b.t.Helper()
	dest := filepath.Join(b.recovery, "RECOVERYXLOG")
	got, err := b.start("wal-restore", b.server, name(n), dest)
	if err != nil || got != early {
		b.t.Errorf("fetching %d: early is %v, %v", n, got, err)
	}
	if err != nil {
		return
	}
	if data, err := os.ReadFile(dest); err != nil || string(data) != string(content(n)) {
		b.t.Errorf("%d has other content, %v", n, err)
	}
	b.must(os.Remove(dest))
}

// TestEarly has the real program move segments, and answer early exactly where that says the same.
func TestEarly(t *testing.T) {
	program := filepath.Join(t.TempDir(), "holdfast")
	if out, err := exec.Command("go", "build", "-o", program, "..").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	receipt := func(b *bench) []string {
		return []string{filepath.Join(b.wal, ".holdfast-wal-receipt"), filepath.Join(b.recovery, handout.Dir, handout.Receipt)}
	}
	each := func(b *bench, do func(path string) error) {
		for _, path := range receipt(b) {
			b.must(do(path))
		}
	}
	for what, c := range map[string]struct {
		change func(b *bench)
		early  bool
	}{
		"nothing":           {func(*bench) {}, true},
		"another variable":  {func(b *bench) { b.env = []string{"LANG=C"} }, true},
		"the configuration": {func(b *bench) { b.must(os.WriteFile(b.config(), b.read(b.config()), 0o600)) }, false},
		"a further file":    {func(b *bench) { b.must(os.WriteFile(filepath.Join(b.dir, "conf.d", "x.conf"), nil, 0o600)) }, false},
		"what it had set":   {func(b *bench) { b.must(os.WriteFile(filepath.Join(b.dir, "home", ".barman.auto.conf"), nil, 0o600)) }, false},
		"a model": {func(b *bench) {
			b.must(os.WriteFile(filepath.Join(b.dir, "home", "main", ".active-model.auto"), []byte("standby"), 0o600))
		}, false},
		"the environment":  {func(b *bench) { b.env = []string{"HOLDFAST_CONFIG=" + b.config()} }, false},
		"the user's home":  {func(b *bench) { b.env = []string{"HOME=" + b.dir} }, false},
		"the directory":    {func(b *bench) { b.cwd = b.wal }, false},
		"no receipt":       {func(b *bench) { each(b, os.Remove) }, false},
		"a torn receipt":   {func(b *bench) { each(b, func(p string) error { return os.Truncate(p, 60) }) }, false},
		"an empty receipt": {func(b *bench) { each(b, func(p string) error { return os.Truncate(p, 0) }) }, false},
		"the segments":     {func(b *bench) { b.flip() }, false},
		"both are not there": {func(b *bench) {
			b.must(errors.Join(os.RemoveAll(filepath.Join(b.recovery, handout.Dir)), os.RemoveAll(filepath.Join(b.dir, "home", "main", "meta"))))
		}, false},
	} {
		if testing.Short() && !slices.Contains([]string{"nothing", "the configuration", "the segments"}, what) {
			continue
		}
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, program)
			time.Sleep(1100 * time.Millisecond) // as long as a configuration must have stayed as it is
			b.archive(1, false)
			b.archive(2, true)
			for n := 3; n <= 6; n++ {
				b.must(os.Rename(filepath.Join(b.wal, "archive_status", name(n)+".ready"), filepath.Join(b.wal, "archive_status", name(n)+".done")))
			}
			b.fetch(1, false)
			b.fetch(2, true)
			c.change(b)
			b.archive(3, c.early)
			b.fetch(3, c.early)
		})
	}
	t.Run("another server", func(t *testing.T) {
		t.Parallel()
		b := newBench(t, program)
		time.Sleep(1100 * time.Millisecond)
		b.archive(1, false)
		b.fetch(1, false)
		b.server = "other"
		b.archive(2, false)
		if early, err := b.start("wal-restore", b.server, name(3), filepath.Join(b.recovery, "RECOVERYXLOG")); err == nil || early {
			t.Errorf("a segment of another server was handed out: early is %v", early)
		}
	})
	t.Run("as soon as it is written", func(t *testing.T) {
		t.Parallel()
		b := newBench(t, program)
		b.must(os.WriteFile(b.config(), b.read(b.config()), 0o600))
		b.archive(1, false)
		b.fetch(1, false)
		for _, path := range receipt(b) {
			if _, err := os.Stat(path); err == nil {
				t.Errorf("%s tells of a configuration that may have changed meanwhile", path)
			}
		}
	})
	t.Run("to the end", func(t *testing.T) {
		t.Parallel()
		b := newBench(t, program)
		time.Sleep(1100 * time.Millisecond)
		for n := 1; n <= 6; n++ {
			b.archive(n, n%3 != 1)
		}
		for n := 1; n <= 6; n++ {
			b.fetch(n, n%3 != 1)
		}
		if left, err := filepath.Glob(filepath.Join(b.recovery, ".*")); err != nil || len(left) > 0 {
			t.Errorf("%q is left over, %v", left, err)
		}
	})
}

func (b *bench) read(path string) []byte {
	b.t.Helper()
	text, err := os.ReadFile(path)
	b.must(err)
	return text
}

// flip changes what was moved ahead: the one in the spool, which is damaged then, and the one of the
// server, which is another one then and written again as it was.
func (b *bench) flip() {
	b.t.Helper()
	found, err := filepath.Glob(filepath.Join(b.recovery, handout.Dir, name(3)+".*"))
	b.must(err)
	if len(found) != 1 {
		b.t.Fatalf("%q is spooled", found)
	}
	time.Sleep(20 * time.Millisecond) // longer than a tick of the kernel's clock
	damaged := content(3)
	damaged[mib-1] = 1
	b.must(errors.Join(os.WriteFile(found[0], damaged, 0o600), os.WriteFile(filepath.Join(b.wal, name(3)), content(3), 0o600)))
}
