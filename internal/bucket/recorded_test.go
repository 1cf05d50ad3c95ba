package bucket_test

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-pg/holdfast/internal/backupinfo"
	"github.com/holdfast-pg/holdfast/internal/basetar"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/objstore"
	"github.com/holdfast-pg/holdfast/internal/wal"
	"github.com/holdfast-pg/holdfast/internal/zstd"
)

// recorded stores a local-to-cloud backup of ours: archives of plain tar, in which no bit has a
// checksum, and the records of them. It returns the names of the archives.
func (w *world) recorded(n int) (*backupinfo.Info, []string) {
	w.t.Helper()
	control, err := os.ReadFile("../pgcontrol/testdata/18.pg_control")
	w.must(err)
	info := w.add(n, func(i *backupinfo.Info) {
		i.SystemID, i.BackupLabel, i.Mode = nil, ptr("label\n"), ptr("local-to-cloud-concurrent")
		i.Tablespaces = []backupinfo.Tablespace{{Name: "ts", OID: 16384, Location: "/x"}}
	})
	dir := "main/base/" + string(info.ID) + "/"
	packed := map[string]string{}
	var names []string
	for _, a := range []struct {
		name  string
		files map[string]string
	}{
		{"data.tar", map[string]string{"backup_label": "label", "global/pg_control": string(control)}},
		{"data_0001.tar", map[string]string{"base/5/1": strings.Repeat("one", 1000) + fmt.Sprint(n)}},
		{"data_0002.tar", map[string]string{"base/5/2": strings.Repeat("two", 1000) + fmt.Sprint(n)}},
		{"16384.tar", map[string]string{"PG_18_202506291/5/1": "x"}},
	} {
		content := archiveOf(w.t, a.files)
		w.put(dir+a.name, content)
		head, err := json.Marshal(map[string]any{"record": map[string]any{"key": dir + a.name, "size": len(content),
			"crc32c": crc32.Checksum([]byte(content), objstore.Castagnoli), "codec": "none"}})
		w.must(err)
		packed[a.name+".record"] = string(head) + "\n"
		names = append(names, a.name)
	}
	var out bytes.Buffer
	z, err := zstd.NewWriter(&out, 3)
	w.must(err)
	_, err = io.WriteString(z, archiveOf(w.t, packed))
	w.must(errors.Join(err, z.Close()))
	w.put(dir+"holdfast/records.tar.zst", out.String())
	w.segment(n)
	return info, names
}

// segment stores the WAL of a backup.
func (w *world) segment(n int) (path string) {
	w.t.Helper()
	s := wal.SegmentOf(1, wal.LSN(n*16*mib), 16*mib)
	b := make([]byte, s.Size)
	le := binary.LittleEndian
	le.PutUint16(b, 0xD118)
	le.PutUint16(b[2:], 2)
	le.PutUint32(b[4:], s.TLI)
	le.PutUint64(b[8:], uint64(s.Start()))
	le.PutUint64(b[24:], 7)
	le.PutUint32(b[32:], uint32(s.Size))
	key := "main/wals/" + s.Name()[:16] + "/" + s.Name()
	w.put(key, string(b))
	return filepath.Join(w.dir, key)
}

// flip changes a bit of a stored object.
func (w *world) flip(path string, at int64) {
	w.t.Helper()
	b, err := os.ReadFile(path)
	w.must(err)
	b[at] ^= 1
	w.must(os.WriteFile(path, b, 0o600))
}

// everything reads what a restore would read.
func (w *world) everything(info *backupinfo.Info) (members []string, doubt, err error) {
	archives, doubt, err := w.Restorable(w.t.Context(), info)
	for _, list := range archives {
		for _, a := range list {
			err = errors.Join(err, a.Each(w.t.Context(), nil, func(m basetar.Member) error { members = append(members, m.Name); return nil }))
		}
	}
	return members, doubt, err
}

// TestRecordedArchives: our own records tell of each bit of each archive, and of each archive,
// where neither the store nor the format does. Restores go by them, too, as long as they can be read.
func TestRecordedArchives(t *testing.T) {
	const records = "holdfast/records.tar.zst"
	for name, c := range map[string]struct {
		damage   func(w *world, at func(name string) string)
		says     string // by the verification
		restores string // what the restore says; "-" when it succeeds without a word
	}{
		"whole":             {func(*world, func(string) string) {}, "", "-"},
		"deleted":           {func(w *world, at func(string) string) { w.must(os.Remove(at("data_0002.tar"))) }, "data_0002.tar is missing", "data_0002.tar is missing"},
		"the last one gone": {func(w *world, at func(string) string) { w.must(os.Remove(at("16384.tar"))) }, "16384.tar is missing", "16384.tar is missing"},
		"a bit of a file":   {func(w *world, at func(string) string) { w.flip(at("data_0001.tar"), 600) }, "data_0001.tar: it is not what was stored: its content has another checksum", "data_0001.tar"},
		"a bit of padding":  {func(w *world, at func(string) string) { w.flip(at("data_0001.tar"), 3550) }, "data_0001.tar: it is not what was stored: its content has another checksum", "data_0001.tar"},
		"swapped": {func(w *world, at func(string) string) {
			one, two := at("data_0001.tar"), at("data_0002.tar")
			w.must(errors.Join(os.Rename(one, one+"x"), os.Rename(two, one), os.Rename(one+"x", two)))
		}, "data_0001.tar: it is not what was stored: its content has another checksum", "data_000"},
		"of another backup": {func(w *world, at func(string) string) {
			w.recorded(3)
			w.must(os.Rename(strings.Replace(at("data_0001.tar"), string(day(2)), string(day(3)), 1), at("data_0001.tar")))
		}, "data_0001.tar: it is not what was stored: its content has another checksum", "data_0001.tar"},
		"cut":             {func(w *world, at func(string) string) { w.must(os.Truncate(at("data_0001.tar"), 1024)) }, "data_0001.tar: it is not what was stored: it has 1024 bytes, not", "data_0001.tar"},
		"one too many":    {func(w *world, _ func(string) string) { w.put("main/base/"+string(day(2))+"/data_0009.tar", "x") }, "data_0009.tar is no archive of this backup", "-"},
		"damaged records": {func(w *world, at func(string) string) { w.flip(at(records), 60) }, "records.tar.zst", "records.tar.zst"},
		"no records":      {func(w *world, at func(string) string) { w.must(os.Remove(at(records))) }, "", "-"},
		"WAL is cut":      {func(w *world, _ func(string) string) { w.must(os.Truncate(w.segment(2), 5*mib)) }, "it has 5242880 bytes, a whole segment has 16777216", "-"},
		"other WAL":       {func(w *world, _ func(string) string) { w.flip(w.segment(2), 9) }, "000000010000000000000002", "-"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			info, names := w.recorded(2)
			c.damage(w, func(name string) string { return filepath.Join(w.dir, "main/base", string(info.ID), name) })
			v, err := w.Verify(t.Context(), info, 2, func(_, _ int64) {})
			w.must(err)
			err = v.Err(string(info.ID))
			if c.says == "" && err != nil || c.says != "" && (!fault.Is(err, fault.Corrupt) || !strings.Contains(err.Error(), c.says)) {
				t.Errorf("verified: %v", err)
			}
			if certain := name != "no records" && name != "damaged records"; certain == (len(v.Unproven) > 0) {
				t.Errorf("not verified: %q", v.Unproven)
			}
			members, doubt, err := w.everything(info)
			if err = errors.Join(err, doubt); c.restores == "-" && err != nil || c.restores != "-" && (!fault.Is(err, fault.Corrupt) || !strings.Contains(err.Error(), c.restores)) {
				t.Errorf("restored: %v", err)
			}
			if c.restores == "-" && len(members) != len(names)+1 {
				t.Errorf("restored: %q", members)
			}
		})
	}
}

// TestEveryBitOfTheRecords: damage anywhere in them is noticed, or changes nothing of what they say, as
// some bits of a header do.
func TestEveryBitOfTheRecords(t *testing.T) {
	w := newWorld(t)
	info, _ := w.recorded(2)
	path := filepath.Join(w.dir, "main/base", string(info.ID), "holdfast/records.tar.zst")
	st, err := os.Stat(path)
	w.must(err)
	harmless := 0
	for at := range st.Size() {
		w.flip(path, at)
		if members, doubt, err := w.everything(info); doubt != nil && !fault.Is(doubt, fault.Corrupt) || err != nil || len(members) != 5 {
			t.Errorf("byte %d of %d: %q %v %v", at, st.Size(), members, doubt, err)
		} else if doubt == nil {
			harmless++
		}
		w.flip(path, at)
	}
	if harmless > 10 {
		t.Errorf("%d bits of %d were not noticed", harmless, st.Size())
	}
}
