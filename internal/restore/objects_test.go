package restore_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-pg/holdfast/internal/basetar"
	"github.com/holdfast-pg/holdfast/internal/codec"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/restore"
	"github.com/holdfast-pg/holdfast/internal/restoreplan"
)

// entry is a member: a directory when its name ends in a slash, a link when it leads somewhere.
type entry struct{ name, content, to string }

// object is an archive of a store.
func object(t *testing.T, name string, oid uint32, compression string, entries ...entry) basetar.Archive {
	t.Helper()
	c, err := codec.New(compression, "low")
	check(t, err)
	return stored(name, oid, c.Algorithm, packedAs(t, compression, entries...))
}

func packedAs(t *testing.T, compression string, entries ...entry) string {
	t.Helper()
	c, err := codec.New(compression, "low")
	check(t, err)
	var out bytes.Buffer
	z, err := c.NewWriter(&out)
	check(t, err)
	w := tar.NewWriter(z)
	for _, e := range entries {
		h := &tar.Header{Typeflag: tar.TypeReg, Name: e.name, Size: int64(len(e.content)), Mode: 0o600, ModTime: time.Unix(1e9, 123456789), Format: tar.FormatPAX}
		switch {
		case strings.HasSuffix(e.name, "/"):
			h.Typeflag, h.Mode = tar.TypeDir, 0o700
		case e.to != "":
			h.Typeflag, h.Linkname = tar.TypeSymlink, e.to
		}
		check(t, w.WriteHeader(h))
		_, err := io.WriteString(w, e.content)
		check(t, err)
	}
	check(t, w.Close())
	check(t, z.Close())
	return out.String()
}

func stored(name string, oid uint32, algorithm codec.Algorithm, content string) basetar.Archive {
	return basetar.Stored(name, oid, int64(len(content)), algorithm, func(context.Context) (io.ReadCloser, error) {
		return io.NopCloser(strings.NewReader(content)), nil
	})
}

// inStore is the sample as objects: split archives, members that repeat, directories that come late, and without pg_wal.
func inStore(t *testing.T, src restore.Source) restore.Source {
	t.Helper()
	src.Data, src.TableDirs = "", nil
	src.Objects = map[uint32][]basetar.Archive{
		0: {
			object(t, "data.tar.gz", 0, "gzip", entry{name: "backup_label", content: "old"}, entry{name: "base/1/2", content: "first"}, entry{name: "postgresql.conf", content: "port=1\n"},
				entry{name: "base/1/2", content: "twice"}, entry{name: "global/pg_control", content: "old control"}, entry{name: "pg_log/x", content: "x"}, entry{name: "late/er/file", content: "z"}),
			object(t, "data_0001.tar", 0, "none", entry{name: "./"}, entry{name: "base/1/3", content: "third"}, entry{name: "base/1/2", content: "last"}, entry{name: "base/1/"},
				entry{name: "late/"}, entry{name: "conf", to: "/etc/postgresql/conf"}, entry{name: "pg_tblspc/16384", to: "/source"}, entry{name: "pg_wal", to: "/source/wal"}),
			object(t, "data_0002.tar.bz2", 0, "bzip2", entry{name: "global/pg_control", content: "control"}, entry{name: "backup_label", content: "label"}, entry{name: "tablespace_map", content: "x"}),
		},
		16384: {object(t, "16384.tar.lz4", 16384, "lz4", entry{name: "PG_18_1/"}, entry{name: "PG_18_1/5/7", content: "row"})},
	}
	return src
}

func TestRestoreOfObjects(t *testing.T) {
	for _, jobs := range []int{1, 4} {
		for range 20 { // in every order
			src, arch, root := sample(t)
			src = inStore(t, src)
			dest := filepath.Join(root, "restored")
			plan, err := restoreplan.Make(src.Info, restoreplan.Request{Dest: dest}, arch)
			check(t, err)
			res, err := restore.Run(context.Background(), src, plan, restore.Options{Jobs: jobs, Progress: func(d, total int64) {
				if d > total {
					t.Errorf("%d of %d", d, total)
				}
			}})
			check(t, err)
			for name, want := range map[string]string{"base/1/2": "last", "base/1/3": "third", "backup_label": "label", "global/pg_control": "control", "late/er/file": "z", "pg_tblspc/16384/PG_18_1/5/7": "row"} {
				got, err := os.ReadFile(filepath.Join(dest, name))
				if string(got) != want {
					t.Errorf("%s: %q, %v", name, got, err)
				}
				if st, err := os.Stat(filepath.Join(dest, name)); err == nil && st.ModTime().Unix() != 1e9 {
					t.Errorf("%s is of %v", name, st.ModTime())
				}
			}
			for _, name := range []string{"tablespace_map", "pg_log/x"} {
				if _, err := os.Lstat(filepath.Join(dest, name)); err == nil {
					t.Errorf("%s was restored", name)
				}
			}
			if to, err := os.Readlink(filepath.Join(dest, "conf")); to != "/etc/postgresql/conf" {
				t.Errorf("a link leads to %q, %v", to, err)
			}
			if st, err := os.Lstat(filepath.Join(dest, "pg_wal")); err != nil || !st.IsDir() {
				t.Errorf("pg_wal: %v, %v", st, err)
			}
			if res.Files != 6 {
				t.Errorf("%+v", res)
			}
		}
	}
}

// TestDamagedObjectsLeaveNothing: the object is named, and nothing is left of what was built.
func TestDamagedObjectsLeaveNothing(t *testing.T) {
	whole := func(t *testing.T) string {
		return packedAs(t, "none", entry{name: "PG_18_1/5/7", content: strings.Repeat("row", 1000)})
	}
	for name, c := range map[string]struct {
		damage func(t *testing.T, objects map[uint32][]basetar.Archive)
		says   string
	}{
		"its end is missing": {func(t *testing.T, o map[uint32][]basetar.Archive) {
			text := whole(t)
			o[16384][0] = stored("16384.tar", 16384, codec.None, text[:len(text)-1024])
		}, "16384.tar: it lacks its end"},
		"cut in a file": {func(t *testing.T, o map[uint32][]basetar.Archive) {
			o[16384][0] = stored("16384.tar", 16384, codec.None, whole(t)[:1000])
		}, "16384.tar"},
		"empty": {func(_ *testing.T, o map[uint32][]basetar.Archive) {
			o[16384][0] = stored("16384.tar", 16384, codec.None, "")
		}, "16384.tar"},
		"another format": {func(_ *testing.T, o map[uint32][]basetar.Archive) {
			o[16384][0] = stored("16384.tar.gz", 16384, codec.Gzip, "no gzip")
		}, "16384.tar.gz: its content is not what its name says"},
		"swapped": {func(t *testing.T, o map[uint32][]basetar.Archive) {
			o[0][1] = object(t, "data_0001.tar", 0, "none", entry{name: "PG_18_1/5/7", content: "row"})
		}, "read data_0001.tar: it holds PG_18_1/5/7"},
		"swapped the other way": {func(t *testing.T, o map[uint32][]basetar.Archive) {
			o[16384][0] = object(t, "16384.tar", 16384, "none", entry{name: "global/pg_control", content: "control"})
		}, "read 16384.tar: it holds global/pg_control"},
		"no label": {func(t *testing.T, o map[uint32][]basetar.Archive) {
			o[0] = []basetar.Archive{object(t, "data.tar", 0, "none", entry{name: "global/pg_control", content: "control"})}
		}, "none of data.tar holds backup_label"},
		"no control file": {func(t *testing.T, o map[uint32][]basetar.Archive) {
			o[0] = []basetar.Archive{object(t, "data.tar", 0, "none", entry{name: "backup_label", content: "label"})}
		}, "data.tar does not hold it"},
		"no tablespace": {func(_ *testing.T, o map[uint32][]basetar.Archive) { delete(o, 16384) }, "16384"},
		"out of the directory": {func(t *testing.T, o map[uint32][]basetar.Archive) {
			o[0] = append(o[0], object(t, "data_0003.tar", 0, "none", entry{name: "../../evil", content: "x"}))
		}, "data_0003.tar"},
		"an absolute path": {func(t *testing.T, o map[uint32][]basetar.Archive) {
			o[0] = append(o[0], object(t, "data_0003.tar", 0, "none", entry{name: "/tmp/evil", content: "x"}))
		}, "data_0003.tar"},
		"a link for a directory": {func(t *testing.T, o map[uint32][]basetar.Archive) {
			o[0] = append(o[0], object(t, "data_0003.tar", 0, "none", entry{name: "pg_tblspc", to: "/etc"}))
		}, "pg_tblspc: it is a link to /etc"},
		"the store fails": {func(_ *testing.T, o map[uint32][]basetar.Archive) {
			o[16384][0] = basetar.Stored("16384.tar", 16384, 1, codec.None, func(context.Context) (io.ReadCloser, error) {
				return nil, fault.New(fault.Corrupt, "read", "the store", "it fails")
			})
		}, "16384.tar: read the store: it fails"},
	} {
		t.Run(name, func(t *testing.T) {
			src, arch, root := sample(t)
			src = inStore(t, src)
			c.damage(t, src.Objects)
			plan, err := restoreplan.Make(src.Info, restoreplan.Request{Dest: filepath.Join(root, "restored")}, arch)
			check(t, err)
			_, err = restore.Run(context.Background(), src, plan, restore.Options{Jobs: 3})
			if !fault.Is(err, fault.Corrupt) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v", err)
			}
			left, _ := filepath.Glob(filepath.Join(root, "*restore*"))
			hidden, _ := filepath.Glob(filepath.Join(root, ".*restore*"))
			if len(left)+len(hidden) > 0 {
				t.Errorf("left behind: %v %v", left, hidden)
			}
		})
	}
}

// TestNothingIsUnpackedThroughALink: wherever a link leads, files stay below the destination.
func TestNothingIsUnpackedThroughALink(t *testing.T) {
	src, arch, root := sample(t)
	src = inStore(t, src)
	outside := filepath.Join(root, "outside")
	check(t, os.Mkdir(outside, 0o700))
	src.Objects[0] = append(src.Objects[0], object(t, "data_0003.tar", 0, "none", entry{name: "a", to: outside}, entry{name: "a/b", content: "evil"},
		entry{name: "c", to: outside}, entry{name: "c/d", to: "/etc"}))
	dest := filepath.Join(root, "restored")
	plan, err := restoreplan.Make(src.Info, restoreplan.Request{Dest: dest}, arch)
	check(t, err)
	_, err = restore.Run(context.Background(), src, plan, restore.Options{Jobs: 4})
	check(t, err)
	if left, err := os.ReadDir(outside); err != nil || len(left) > 0 {
		t.Errorf("%v, %v", left, err)
	}
	if got, err := os.ReadFile(filepath.Join(dest, "a/b")); string(got) != "evil" {
		t.Errorf("%q, %v", got, err)
	}
}

// TestRestoreOfObjectsWantsSpace: what a compressed backup expands to is not known, but its databases were.
func TestRestoreOfObjectsWantsSpace(t *testing.T) {
	src, arch, root := sample(t)
	src = inStore(t, src)
	size := int64(1) << 60
	src.Info.ClusterSize = &size
	plan, err := restoreplan.Make(src.Info, restoreplan.Request{Dest: filepath.Join(root, "restored")}, arch)
	check(t, err)
	if _, err = restore.Run(context.Background(), src, plan, restore.Options{}); !fault.Is(err, fault.Disk) {
		t.Error(err)
	}
	if _, err := os.Lstat(filepath.Join(root, ".restored.holdfast-restore")); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}
