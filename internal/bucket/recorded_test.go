package bucket_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/holdfast-pg/holdfast/internal/backupinfo"
	"github.com/holdfast-pg/holdfast/internal/basetar"
	"github.com/holdfast-pg/holdfast/internal/bucket"
	"github.com/holdfast-pg/holdfast/internal/bundle"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/frame"
	"github.com/holdfast-pg/holdfast/internal/objstore"
	"github.com/holdfast-pg/holdfast/internal/wal"
	"github.com/holdfast-pg/holdfast/internal/waltest"
	"github.com/holdfast-pg/holdfast/internal/zstd"
)

// recorded stores a local-to-cloud backup of ours: archives of plain tar, in which no bit has a
// checksum, and the records of them, with further files. It returns the names of the archives.
func (w *world) recorded(n int, more ...string) (*backupinfo.Info, []string) {
	w.t.Helper()
	control, err := os.ReadFile("../pgcontrol/testdata/18.pg_control")
	w.must(err)
	info := w.add(n, func(i *backupinfo.Info) {
		i.SystemID, i.BackupLabel, i.Mode = nil, ptr("label\n"), ptr("local-to-cloud-concurrent")
		i.Tablespaces = []backupinfo.Tablespace{{Name: "ts", OID: 16384, Location: "/x"}}
	})
	dir := "main/base/" + string(info.ID) + "/"
	none, err := frame.Open("none", "")
	w.must(err)
	packed := map[string]string{}
	var names []string
	type archive struct {
		name  string
		files map[string]string
	}
	archives := []archive{
		{"data.tar", map[string]string{"backup_label": "label", "global/pg_control": string(control)}},
		{"data_0001.tar", map[string]string{"base/5/1": strings.Repeat("one", 1000) + fmt.Sprint(n)}},
		{"data_0002.tar", map[string]string{"base/5/2": strings.Repeat("two", 1000) + fmt.Sprint(n)}},
		{"16384.tar", map[string]string{"PG_18_202506291/5/1": "x"}},
	}
	for i, content := range more {
		archives = append(archives, archive{fmt.Sprintf("data_%04d.tar", 3+i), map[string]string{fmt.Sprintf("base/5/%d", 3+i): content}})
	}
	for _, a := range archives {
		content := archiveOf(w.t, a.files)
		r, err := bundle.Write(w.t.Context(), w.store, dir+a.name, &pieces{[]byte(content)}, bundle.Options{Codec: none})
		w.must(err)
		var record bytes.Buffer
		head := *r
		head.Segments = nil
		w.must(errors.Join(json.NewEncoder(&record).Encode(map[string]any{"record": head, "content": len(content)}), bundle.WriteSegments(&record, r.Segments)))
		packed[a.name+".record"] = record.String()
		names = append(names, a.name)
	}
	var out bytes.Buffer
	z, err := zstd.NewWriter(&out, 3)
	w.must(err)
	_, err = io.WriteString(z, archiveOf(w.t, packed))
	w.must(errors.Join(err, z.Close()))
	w.put(dir+"holdfast/records.tar.zst", out.String())
	w.put(dir+"holdfast/tablespace_map", "16384 /x\n")
	w.segment(n)
	return info, names
}

// pieces are segments of 1,000 bytes; of a tenth, or 1 MiB, where that is more.
type pieces struct{ rest []byte }

// Next implements bundle.Source.
func (p *pieces) Next(context.Context) (bundle.Piece, error) {
	if len(p.rest) == 0 {
		return bundle.Piece{}, io.EOF
	}
	n := min(max(1000, min(len(p.rest)/10, mib)), len(p.rest))
	piece := bundle.Piece{Data: p.rest[:n:n]}
	p.rest = p.rest[n:]
	return piece, nil
}

// segment stores the WAL of a backup.
func (w *world) segment(n int) (path string) {
	w.t.Helper()
	s := wal.SegmentOf(1, wal.LSN(n*16*mib), 16*mib)
	key := "main/wals/" + s.Name()[:16] + "/" + s.Name()
	w.put(key, string(waltest.Segment(s, 7, "")))
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
	archives, doubts, err := w.Restorable(w.t.Context(), info, 4)
	for _, list := range archives {
		for _, a := range list {
			err = errors.Join(err, a.Each(w.t.Context(), nil, func(m basetar.Member) error { members = append(members, m.Name); return nil }))
		}
	}
	return members, errors.Join(doubts...), err
}

// TestRecordedArchives: our own records tell of each bit of each archive, and of each archive,
// where neither the store nor the format does. Restores go by them, too, as long as they can be read.
func TestRecordedArchives(t *testing.T) {
	const records, placed = "holdfast/records.tar.zst", bucket.MapObject
	for name, c := range map[string]struct {
		damage   func(w *world, at func(name string) string)
		says     string // by the verification
		restores string // what the restore says; "-" when it succeeds without a word
	}{
		"whole":             {func(*world, func(string) string) {}, "", "-"},
		"deleted":           {func(w *world, at func(string) string) { w.must(os.Remove(at("data_0002.tar"))) }, "data_0002.tar is missing", "data_0002.tar is missing"},
		"the last one gone": {func(w *world, at func(string) string) { w.must(os.Remove(at("16384.tar"))) }, "16384.tar is missing", "16384.tar is missing"},
		"a bit of a file":   {func(w *world, at func(string) string) { w.flip(at("data_0001.tar"), 600) }, "data_0001.tar: the segment at byte", "data_0001.tar"},
		"a bit of padding":  {func(w *world, at func(string) string) { w.flip(at("data_0001.tar"), 3550) }, "data_0001.tar: the segment at byte", "data_0001.tar"},
		"swapped": {func(w *world, at func(string) string) {
			one, two := at("data_0001.tar"), at("data_0002.tar")
			w.must(errors.Join(os.Rename(one, one+"x"), os.Rename(two, one), os.Rename(one+"x", two)))
		}, "data_0001.tar: the segment at byte", "data_000"},
		"of another backup": {func(w *world, at func(string) string) {
			w.recorded(3)
			w.must(os.Rename(strings.Replace(at("data_0001.tar"), string(day(2)), string(day(3)), 1), at("data_0001.tar")))
		}, "data_0001.tar: the segment at byte", "data_0001.tar"},
		"cut":              {func(w *world, at func(string) string) { w.must(os.Truncate(at("data_0001.tar"), 1024)) }, "data_0001.tar: it has 1024 bytes, not", "data_0001.tar"},
		"one too many":     {func(w *world, _ func(string) string) { w.put("main/base/"+string(day(2))+"/data_0009.tar", "x") }, "data_0009.tar is no archive of this backup", "-"},
		"damaged records":  {func(w *world, at func(string) string) { w.flip(at(records), 60) }, "records.tar.zst", "records.tar.zst"},
		"empty records":    {func(w *world, at func(string) string) { w.must(os.Truncate(at(records), 0)) }, "records.tar.zst: it is empty", "records.tar.zst: it is empty"},
		"a bit of the map": {func(w *world, at func(string) string) { w.flip(at(placed), 0) }, placed + ": tablespace 16384 is at \"\" there, at \"/x\"", placed},
		"a bit of a path":  {func(w *world, at func(string) string) { w.flip(at(placed), 7) }, placed + ": tablespace 16384 is at \"/y\" there, at \"/x\"", placed},
		"one more place": {func(w *world, _ func(string) string) {
			w.put("main/base/"+string(day(2))+"/"+placed, "16384 /x\n16385 /y\n")
		}, placed + ": the record has no tablespace 16385", placed},
		"map is cut":  {func(w *world, at func(string) string) { w.must(os.Truncate(at(placed), 8)) }, placed + ": its last line has no end", placed},
		"no map":      {func(w *world, at func(string) string) { w.must(os.Remove(at(placed))) }, placed + ": it is missing", placed},
		"a bit of it": {func(w *world, at func(string) string) { w.flip(at("backup.info"), 100) }, "backup.info: it differs", "backup.info: it differs"},
		"no record":   {func(w *world, at func(string) string) { w.must(os.Remove(at("backup.info"))) }, "backup.info: it is missing", "backup.info: it is missing"},
		"kept, a bit": {func(w *world, _ func(string) string) {
			w.put("main/base/"+string(day(2))+"/annotations/keep", "fulm")
		}, "annotations/keep: \"fulm\" is neither", "annotations/keep"},
		"no records": {func(w *world, at func(string) string) { w.must(os.Remove(at(records))) }, "", "-"},
		"WAL is cut": {func(w *world, _ func(string) string) { w.must(os.Truncate(w.segment(2), 5*mib)) }, "it has 5242880 bytes, a whole segment has 16777216", "-"},
		"other WAL":  {func(w *world, _ func(string) string) { w.flip(w.segment(2), 9) }, "000000010000000000000002", "-"},
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
			if certain := name != "no records" && name != "damaged records" && name != "empty records"; certain == (len(v.Unproven) > 0) {
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

// TestNothingIsThere: a backup that was deleted in the store, of which a catalogue still has the record.
func TestNothingIsThere(t *testing.T) {
	w := newWorld(t)
	info, _ := w.recorded(2)
	w.must(os.RemoveAll(filepath.Join(w.dir, "main/base", string(info.ID))))
	_, verified := w.Verify(t.Context(), info, 2, func(_, _ int64) {})
	_, _, restored := w.everything(info)
	for _, err := range []error{verified, restored} {
		if !fault.Is(err, fault.Corrupt) || !strings.Contains(err.Error(), "nothing of it is in file://") || !strings.HasSuffix(fault.HintOf(err), "remove its record, too: holdfast delete main "+string(info.ID)) {
			t.Errorf("%v (%s)", err, fault.HintOf(err))
		}
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
	harmless, step := 0, int64(1)
	if testing.Short() {
		step = 7
	}
	for at := int64(0); at < st.Size(); at += step {
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

// ranged counts the requests for a part of an object.
type ranged struct {
	objstore.Store
	parts atomic.Int64
}

func (s *ranged) Get(ctx context.Context, key string, r objstore.Range) (io.ReadCloser, objstore.Object, error) {
	if r.Length >= 0 {
		s.parts.Add(1)
	}
	return s.Store.Get(ctx, key, r)
}

// TestALargeArchiveIsReadByRanges: where there are fewer of them than jobs. Damage is noticed all the same.
func TestALargeArchiveIsReadByRanges(t *testing.T) {
	w := newWorld(t)
	content := make([]byte, 40*mib)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(content)
	info, _ := w.recorded(2, string(content))
	for jobs, want := range map[int]int64{1: 0, 4: 6} {
		s := &ranged{Store: w.store}
		var err error
		w.Bucket, err = bucket.Open(s, "file://"+w.dir, "main")
		w.must(err)
		archives, _, err := w.Restorable(t.Context(), info, jobs)
		w.must(err)
		read := map[string]string{}
		for _, a := range archives[0] {
			w.must(a.Each(t.Context(), nil, func(m basetar.Member) error {
				b, err := io.ReadAll(m)
				read[m.Name] = string(b)
				return err
			}))
		}
		if read["base/5/3"] != string(content) || s.parts.Load() != want {
			t.Errorf("%d jobs: %d bytes, %d ranges", jobs, len(read["base/5/3"]), s.parts.Load())
		}
	}
	w.flip(filepath.Join(w.dir, "main/base", string(info.ID), "data_0003.tar"), 30*mib)
	if _, _, err := w.everything(info); !fault.Is(err, fault.Corrupt) || !strings.Contains(err.Error(), "data_0003.tar: it is not what was stored") {
		t.Errorf("damaged: %v", err)
	}
}
