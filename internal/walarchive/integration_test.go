//go:build integration

package walarchive_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/holdfast-pg/holdfast/internal/barmantest"
	"github.com/holdfast-pg/holdfast/internal/codec"
	"github.com/holdfast-pg/holdfast/internal/pgtest"
	"github.com/holdfast-pg/holdfast/internal/walarchive"
)

// TestBarmanReadsOurArchive: Barman delivers the WAL that we stored, and when
// it makes xlog.db anew from the files it writes what we had written.
func TestBarmanReadsOurArchive(t *testing.T) {
	for _, compression := range []string{"none", "gzip", "zstd", "lz4", "bzip2", "pybzip2", "xz", "custom"} {
		t.Run(compression, func(t *testing.T) {
			home := pgtest.Dir(t)
			b := &bench{l: layout(home), src: filepath.Join(home, "pg_wal")}
			o := codec.Options{Compression: compression}
			if compression == "custom" {
				o.Filter, o.Unfilter, o.Magic = "(printf MYZ1; tr a-z n-za-m)", "(tail -c +5 | tr n-za-m a-z)", "0x4D595A31"
			}
			c, err := codec.Configured(o)
			if err != nil {
				t.Fatal(err)
			}
			b.Archive = walarchive.Open(b.l, walarchive.Options{Compression: c})
			if err := b.l.EnsureDirs(); err != nil {
				t.Fatal(err)
			}
			if err := os.Mkdir(b.src, 0o700); err != nil {
				t.Fatal(err)
			}
			option := ""
			if compression != "none" {
				option = fmt.Sprintf("compression = %s\ncustom_compression_filter = %s\ncustom_decompression_filter = %s\ncustom_compression_magic = %s\n", compression, o.Filter, o.Unfilter, o.Magic)
			}
			conf := filepath.Join(home, "barman.conf")
			if err := os.WriteFile(conf, fmt.Appendf(nil, "[barman]\nbarman_home = %s\nbarman_user = root\nlog_file = %s/barman.log\n[main]\nbackup_method = postgres\narchiver = on\nconninfo = host=/nowhere\n%s",
				home, home, option), 0o644); err != nil {
				t.Fatal(err)
			}
			const next = "000000010000000100000000"
			b.archive(t, "00000002.history", seg1, seg2, seg2+".00000028.backup", seg3, next)
			ours, err := os.ReadFile(b.l.XlogDB())
			if err != nil {
				t.Fatal(err)
			}
			barman := func(args ...string) string {
				t.Helper()
				r := barmantest.Run(t, []string{home}, 0, append([]string{"barman", "-c", conf}, args...)...)
				if r.Exit != 0 {
					t.Errorf("barman %v: exit %d\n%.500s%s", args, r.Exit, r.Stdout, r.Stderr)
				}
				return r.Stdout
			}
			if got := barman("get-wal", "main", seg2); got != string(segment(t, seg2, mib, seg2)) {
				t.Errorf("Barman delivers %d bytes of another content", len(got))
			}
			barman("rebuild-xlogdb", "main")
			theirs, err := os.ReadFile(b.l.XlogDB())
			if err != nil {
				t.Fatal(err)
			}
			if _, err := b.Rebuild(t.Context()); err != nil {
				t.Fatal(err)
			}
			again, err := os.ReadFile(b.l.XlogDB())
			if err != nil || !bytes.Equal(theirs, again) {
				t.Errorf("%v\nBarman rebuilds:\n%s\nwe rebuild:\n%s", err, theirs, again)
			}
			if !bytes.Equal(sorted(ours), sorted(theirs)) {
				t.Errorf("we wrote:\n%s\nBarman rebuilds:\n%s", ours, theirs)
			}
		})
	}
}

func sorted(text []byte) []byte {
	lines := bytes.Split(text, []byte("\n"))
	slices.SortFunc(lines, bytes.Compare)
	return bytes.Join(lines, []byte("\n"))
}
