package restore

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-pg/holdfast/internal/backupinfo"
	"github.com/holdfast-pg/holdfast/internal/combinebackup"
	"github.com/holdfast-pg/holdfast/internal/fault"
)

func put(t *testing.T, content string, path ...string) {
	t.Helper()
	name := filepath.Join(path...)
	check(t, os.MkdirAll(filepath.Dir(name), 0o700))
	check(t, os.WriteFile(name, []byte(content), 0o600))
}

// files lists what lies below a directory; directories end with a slash.
func files(t *testing.T, dir string) []string {
	t.Helper()
	var out []string
	check(t, filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		name := strings.TrimPrefix(path, dir+"/")
		if d.IsDir() {
			name += "/"
		}
		out = append(out, name)
		return nil
	}))
	return out
}

// What was combined becomes what a plain restore would have built.
func TestMoveInto(t *testing.T) {
	from, to := t.TempDir(), t.TempDir()
	for _, name := range []string{"PG_VERSION", "base/1/2", "log/old", "pg_wal/x", "postmaster.pid", "standby.signal", "pg_tblspc/7/PG_18/3", "inside/ts/4"} {
		put(t, name, from, name)
	}
	check(t, os.Symlink("/elsewhere", filepath.Join(from, "pg_tblspc", "8")))
	put(t, "a tablespace that is built here already", to, "inside", "other", "5")
	check(t, moveInto(from, to, "", excluded))
	want := []string{"PG_VERSION", "base/", "base/1/", "base/1/2", "inside/", "inside/other/", "inside/other/5", "inside/ts/", "inside/ts/4", "log/",
		"pg_tblspc/", "pg_tblspc/7/", "pg_tblspc/7/PG_18/", "pg_tblspc/7/PG_18/3", "pg_wal/"}
	if got := files(t, to); !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
}

func TestReconstructed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "INCREMENTAL.16384")
	header := binary.NativeEndian.AppendUint32(binary.NativeEndian.AppendUint32(binary.NativeEndian.AppendUint32(nil, 0xd3ae1f0d), 1), 40)
	check(t, os.WriteFile(path, append(header, make([]byte, 8192)...), 0o600))
	if n, err := reconstructed(path); err != nil || n != 40*8192 {
		t.Errorf("%d, %v", n, err)
	}
	check(t, os.WriteFile(path, header[:7], 0o600))
	if _, err := reconstructed(path); !fault.Is(err, fault.Corrupt) {
		t.Errorf("%v", err)
	}
}

// Staging directories of the dead go, that of a living restore stays.
func TestStagingOfTheDead(t *testing.T) {
	parent := t.TempDir()
	put(t, "left", parent, stagingPrefix+"dead", "1", "data", "x")
	put(t, "theirs", parent, "other", "x")
	living, err := openStaging(parent, &place{final: "/one"}, nil)
	check(t, err)
	put(t, "mine", living.dir, "x")
	s, err := openStaging(parent, &place{final: "/two"}, nil)
	check(t, err)
	if got := files(t, parent); slices.Contains(got, stagingPrefix+"dead/") || !slices.Contains(got, filepath.Base(living.dir)+"/x") || !slices.Contains(got, "other/x") || s.dir == living.dir {
		t.Errorf("%q", got)
	}
	s.close(false)
	living.close(false)
	if got := files(t, parent); !slices.Equal(got, []string{"other/", "other/x"}) {
		t.Errorf("%q", got)
	}
	if _, err := openStaging(filepath.Join(parent, "none"), &place{final: "/one"}, nil); !fault.Is(err, fault.NotFound) || !strings.Contains(fault.HintOf(err), "--staging-path") {
		t.Errorf("%v", err)
	}
}

// What a dead restore has staged in the place of a destination does not get into that.
func TestStagingThatIsNotNeeded(t *testing.T) {
	base := t.TempDir()
	s := Source{Info: &backupinfo.Info{}, Data: filepath.Join(base, "data")}
	put(t, "18", s.Data, "PG_VERSION")
	put(t, "control", s.Data, "global", "pg_control")
	build := filepath.Join(base, "build")
	put(t, "left", build, stagingInside, "20260101T000000", "data", "x")
	c := newCombiner(t.Context(), s, Options{Combine: Combine{Mode: combinebackup.Copy}}, []*place{{build: build}})
	check(t, c.prepare([]*tree{{isData: true}}))
	if got := files(t, build); len(got) > 0 {
		t.Errorf("%q", got)
	}
}

// A backup whose links to tablespaces lead elsewhere, because the catalogue has
// moved, is staged; so is what would be linked to.
func TestWhatIsStaged(t *testing.T) {
	base := t.TempDir()
	s := Source{Info: &backupinfo.Info{Tablespaces: []backupinfo.Tablespace{{Name: "ts", OID: 7}}}, Data: filepath.Join(base, "data"), TableDirs: map[uint32]string{7: filepath.Join(base, "7")}}
	put(t, "18", s.Data, "PG_VERSION")
	put(t, "control", s.Data, "global", "pg_control")
	put(t, "row", base, "7", "PG_18", "1")
	check(t, os.Mkdir(filepath.Join(s.Data, "pg_tblspc"), 0o700))
	for _, c := range []struct {
		link, mode string
		want       bool
	}{{s.TableDirs[7], combinebackup.Copy, false}, {s.TableDirs[7], combinebackup.Link, true}, {"/elsewhere", combinebackup.Copy, true}} {
		link := filepath.Join(s.Data, "pg_tblspc", "7")
		os.Remove(link)
		check(t, os.Symlink(c.link, link))
		one := &combiner{how: combinebackup.Options{Mode: c.mode}}
		wanted, bytes, err := one.toStage(s)
		if err != nil || wanted != c.want || wanted != (bytes == int64(len("18row"))) {
			t.Errorf("%+v: %v, %d bytes, %v", c, wanted, bytes, err)
		}
	}
}
