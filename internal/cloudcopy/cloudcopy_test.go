package cloudcopy

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/holdfast-pg/holdfast/internal/atomicfile"
	"github.com/holdfast-pg/holdfast/internal/datadir"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/frame"
	"github.com/holdfast-pg/holdfast/internal/objstore"
	"github.com/holdfast-pg/holdfast/internal/objstore/file"
	"github.com/holdfast-pg/holdfast/internal/volumes"
)

const systemID = 7711781159528429484 // of the sample of pg_control

// free is a fence that lets everybody through.
type free struct{}

func (free) Do(write func() error) error { return write() }

// watched is a store that counts, and fails when it is told to.
type watched struct {
	*file.Store
	mu       sync.Mutex
	complete func(key string) error // nil for no error
	made     []string               // keys of objects that were completed
}

func (w *watched) Complete(ctx context.Context, u objstore.Upload, parts []objstore.Part, o objstore.PutOptions) (objstore.Object, error) {
	if err := w.making(u.Key); err != nil {
		return objstore.Object{}, err
	}
	return w.Store.Complete(ctx, u, parts, o)
}

func (w *watched) Put(ctx context.Context, key string, r io.Reader, o objstore.PutOptions) (objstore.Object, error) {
	if err := w.making(key); err != nil {
		return objstore.Object{}, err
	}
	return w.Store.Put(ctx, key, r, o)
}

func (w *watched) making(key string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.complete != nil {
		if err := w.complete(key); err != nil {
			return err
		}
	}
	w.made = append(w.made, key)
	return nil
}

// bench is a cluster of made-up files and a store.
type bench struct {
	t     testing.TB
	data  string
	store *watched
	work  string
	world datadir.World
}

func newBench(t testing.TB) *bench {
	s, err := file.Open(objstore.Location{Provider: objstore.File, Bucket: t.TempDir()}, &objstore.Policy{})
	require.NoError(t, err)
	b := &bench{t: t, data: t.TempDir(), store: &watched{Store: s}, work: t.TempDir(), world: datadir.World{Host: "h", Boot: "b", System: "s"}}
	control, err := os.ReadFile("../pgcontrol/testdata/15.pg_control")
	require.NoError(t, err)
	b.put("global/pg_control", string(control))
	for i := range 12 {
		b.put(fmt.Sprintf("base/5/%d", 16384+i), strings.Repeat(fmt.Sprintf("row %d of a table\n", i), 40000))
	}
	b.put("PG_VERSION", "15\n")
	return b
}

// put writes a file that was settled long ago.
func (b *bench) put(name, content string) {
	path := filepath.Join(b.data, name)
	require.NoError(b.t, os.MkdirAll(filepath.Dir(path), 0o700))
	require.NoError(b.t, os.WriteFile(path, []byte(content), 0o600))
	old := time.Now().Add(-time.Hour)
	require.NoError(b.t, os.Chtimes(path, old, old))
}

func (b *bench) job(id string, attempt int) Job {
	codec, err := frame.Open("zstd", "1")
	require.NoError(b.t, err)
	work := filepath.Join(b.work, id)
	return Job{Store: b.store, Base: "main/base/" + id + "/", WorkDir: work, Fence: free{}, Attempt: attempt, Cluster: volumes.Cluster{DataDir: b.data, Major: 15},
		SystemID: systemID, World: b.world, Codec: codec, VolumeSize: 2 << 20, LargestSize: 1 << 40, Jobs: 2, Reuse: Off, Progress: &Progress{}}
}

// taken is a backup from begin to end.
func (b *bench) taken(id string) Job {
	job := b.job(id, 1)
	_, err := Copy(b.t.Context(), job)
	require.NoError(b.t, err)
	b.done(job)
	return job
}

// done ends a backup that was copied.
func (b *bench) done(job Job) Proven {
	_, err := Finish(b.t.Context(), job, "START WAL", time.Now())
	require.NoError(b.t, err)
	p, err := Prove(b.t.Context(), job, func(name string) bool { return name == "backup.info" })
	require.NoError(b.t, err)
	return p
}

// same compares what the archives hold with the cluster.
func (b *bench) same(job Job) {
	got := map[string]string{}
	for o, err := range b.store.List(b.t.Context(), job.Base) {
		require.NoError(b.t, err)
		name := strings.TrimPrefix(o.Key, job.Base)
		if !strings.HasPrefix(name, "data") {
			continue
		}
		in, _, err := b.store.Get(b.t.Context(), o.Key, objstore.Whole())
		require.NoError(b.t, err)
		z, err := zstd.NewReader(in)
		require.NoError(b.t, err)
		for r := tar.NewReader(z); ; {
			h, err := r.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			require.NoError(b.t, err)
			content, err := io.ReadAll(r)
			require.NoError(b.t, err)
			if h.Typeflag == tar.TypeReg {
				assert.NotContains(b.t, got, h.Name)
				got[h.Name] = string(content)
			}
		}
		z.Close()
		in.Close()
	}
	want := map[string]string{"backup_label": "START WAL"}
	require.NoError(b.t, filepath.WalkDir(b.data, func(path string, d os.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			var content []byte
			content, err = os.ReadFile(path)
			rel, _ := filepath.Rel(b.data, path)
			want[rel] = string(content)
		}
		return err
	}))
	for name := range want {
		assert.True(b.t, got[name] == want[name], "%s differs", name)
	}
	assert.Len(b.t, got, len(want))
	b.summed(job)
}

// records are those that are stored.
func (b *bench) records(job Job) *packed {
	stored, err := fetchRecords(b.t.Context(), job, job.Base)
	require.NoError(b.t, err)
	require.NotNil(b.t, stored)
	b.t.Cleanup(stored.close)
	return stored
}

// summed looks whether the stored records have a checksum of each file.
func (b *bench) summed(job Job) {
	stored := b.records(job)
	for name := range stored.at {
		if archive, is := strings.CutSuffix(name, membersSuffix); is {
			require.NoError(b.t, stored.members(archive, func(m volumes.Member) error {
				assert.NotZero(b.t, m.Sum, m.Path)
				return nil
			}))
		}
	}
}

// TestAnInterruptedCopyGoesOn: what is stored as it was recorded is not made again.
func TestAnInterruptedCopyGoesOn(t *testing.T) {
	b := newBench(t)
	job := b.job("1", 1)
	job.Jobs = 1
	done := 0
	failing := errors.New("the store is gone")
	b.store.complete = func(string) error {
		if done++; done > 2 {
			return failing
		}
		return nil
	}
	_, err := Copy(t.Context(), job)
	require.ErrorIs(t, err, failing)
	b.store.complete = nil
	first := b.store.made
	require.Len(t, first, 2)
	b.store.made = nil
	res, err := Copy(t.Context(), job)
	require.NoError(t, err)
	for _, key := range first {
		assert.NotContains(t, b.store.made, key)
	}
	assert.EqualValues(t, 13, res.Files)
	assert.Positive(t, res.Kept)
	assert.Equal(t, res.Stored, res.Sent)
	assert.Empty(t, b.done(job).Removed)
	b.same(job)
}

// TestALaterAttempt: after another session began, volumes count only whose files are
// all unchanged; nothing of the others is left, whoever stores it late.
func TestALaterAttempt(t *testing.T) {
	for name, c := range map[string]struct {
		change func(b *bench)
		kept   bool
	}{
		"nothing changed": {func(*bench) {}, true},
		"a file changed":  {func(b *bench) { b.put("base/5/16390", "other rows") }, true},
		"a file is gone":  {func(b *bench) { require.NoError(t, os.Remove(filepath.Join(b.data, "base/5/16390"))) }, true},
		"a file came":     {func(b *bench) { b.put("base/5/20000", "new rows") }, true},
		"another boot":    {func(b *bench) { b.world.Boot = "c" }, false},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			_, err := Copy(t.Context(), b.job("1", 1))
			require.NoError(t, err)
			c.change(b)
			b.store.made = nil
			job := b.job("1", 2)
			res, err := Copy(t.Context(), job)
			require.NoError(t, err)
			if c.kept {
				assert.Positive(t, res.Kept)
				assert.Less(t, len(b.store.made), 3)
			} else {
				assert.Zero(t, res.Kept)
			}
			late := job.Base + "data_0001.tar.zst.late"
			_, err = b.store.Store.Put(t.Context(), late, strings.NewReader("x"), objstore.PutOptions{})
			require.NoError(t, err)
			_, err = b.store.Store.Put(t.Context(), job.Base+"backup.info", strings.NewReader("x"), objstore.PutOptions{})
			require.NoError(t, err)
			p := b.done(job)
			assert.Contains(t, p.Removed, late)
			_, err = b.store.Stat(t.Context(), job.Base+"backup.info")
			require.NoError(t, err)
			b.same(job)
		})
	}
}

// TestReuse: a later backup costs what changed, and needs the earlier one no more.
func TestReuse(t *testing.T) {
	for _, reuse := range []Reuse{Off, Checksum, Mtime} {
		t.Run(string(reuse), func(t *testing.T) {
			b := newBench(t)
			first := b.job("1", 1)
			_, err := Copy(t.Context(), first)
			require.NoError(t, err)
			b.done(first)
			b.put("base/5/16390", strings.Repeat("changed rows of a table\n", 30000))
			b.put("base/5/20000", "new rows")
			second := b.job("2", 1)
			second.Reuse, second.Previous = reuse, first.Base
			res, err := Copy(t.Context(), second)
			require.NoError(t, err)
			b.done(second)
			if reuse == Off {
				assert.Equal(t, res.Stored, res.Sent)
			} else {
				assert.Less(t, res.Sent, res.Stored/2)
			}
			for o, err := range b.store.List(t.Context(), first.Base) {
				require.NoError(t, err)
				require.NoError(t, b.store.Delete(t.Context(), o.Key))
			}
			b.same(second)
		})
	}
}

// TestReuseAfterAChangeOfTheCompression: nothing that is stored can be used again, and
// nothing that is unchanged is left out.
func TestReuseAfterAChangeOfTheCompression(t *testing.T) {
	for _, reuse := range []Reuse{Checksum, Mtime} {
		b := newBench(t)
		first := b.taken("1")
		second := b.job("2", 1)
		codec, err := frame.Open("zstd", "3")
		require.NoError(t, err)
		second.Codec = codec
		second.Reuse, second.Previous = reuse, first.Base
		res, err := Copy(t.Context(), second)
		require.NoError(t, err)
		assert.Equal(t, res.Stored, res.Sent)
		b.done(second)
		b.same(second)
	}
}

// TestAWriterThatRestoresTimes is noticed by the time of the inode's last change.
func TestAWriterThatRestoresTimes(t *testing.T) {
	b := newBench(t)
	first := b.taken("1")
	path := filepath.Join(b.data, "base/5/16390")
	st, err := os.Stat(path)
	require.NoError(t, err)
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	require.NoError(t, err)
	_, err = f.WriteAt([]byte("sly"), 100)
	require.NoError(t, errors.Join(err, f.Close(), os.Chtimes(path, st.ModTime(), st.ModTime())))
	second := b.job("2", 1)
	second.Reuse, second.Previous = Mtime, first.Base
	_, err = Copy(t.Context(), second)
	require.NoError(t, err)
	b.done(second)
	b.same(second)
}

// TestProofFindsDamage: what is missing or other than recorded is named.
func TestProofFindsDamage(t *testing.T) {
	for name, damage := range map[string]func(b *bench, key string) error{
		"missing": func(b *bench, key string) error { return b.store.Delete(t.Context(), key) },
		"replaced": func(b *bench, key string) error {
			_, err := b.store.Store.Put(t.Context(), key, strings.NewReader("x"), objstore.PutOptions{})
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			job := b.job("1", 1)
			_, err := Copy(t.Context(), job)
			require.NoError(t, err)
			b.done(job)
			key := job.Base + "data_0002.tar.zst"
			require.NoError(t, damage(b, key))
			_, err = Prove(t.Context(), job, func(string) bool { return true })
			require.ErrorContains(t, err, key)
			assert.True(t, fault.Is(err, fault.Corrupt))
			assert.NotEmpty(t, fault.HintOf(err))
		})
	}
}

// TestTreesAreKept with names that are no UTF-8.
func TestTreesAreKept(t *testing.T) {
	j := newJournal(t.TempDir())
	none, err := j.trees()
	require.NoError(t, err)
	assert.Nil(t, none)
	trees := []volumes.Tree{{Name: "data", Root: "/d\xffata", Dirs: []string{"a", "a/\xfe\n"}, Links: []string{"l"}, Files: []volumes.File{{Path: "f", Size: 1}}}, {Name: "5", Root: "/x"}}
	require.NoError(t, j.keepTrees(trees))
	assert.Len(t, trees[0].Files, 1)
	kept, err := j.trees()
	require.NoError(t, err)
	trees[0].Files = nil
	assert.Equal(t, trees, kept)
	require.NoError(t, os.Truncate(j.path(treesName), 20))
	_, err = j.trees()
	assert.True(t, fault.Is(err, fault.Corrupt), err)
}

// TestRecordsOfAnEarlierVersion, whose plans had no stride and whose records were JSON, are used.
func TestRecordsOfAnEarlierVersion(t *testing.T) {
	for _, reuse := range []Reuse{Checksum, Mtime} {
		b := newBench(t)
		first := b.taken("1")
		b.rewrite(first, func(name, text string) string {
			if head, lines, is := strings.Cut(text, "\n"); is && strings.HasSuffix(name, recordSuffix) {
				segments := strings.Join(strings.Fields(strings.ReplaceAll(lines, " ", "_")), `","`)
				return regexp.MustCompile(`(,"crc32c"[^}]*)}`).ReplaceAllString(head, `$1,"segments":["`+strings.ReplaceAll(segments, "_", " ")+`"]}`)
			}
			return strings.Replace(text, "holdfast-plan 2 2097152 524288\n", "holdfast-plan 1 2097152\n", 1)
		})
		second := b.job("2", 1)
		second.Reuse, second.Previous = reuse, first.Base
		res, err := Copy(t.Context(), second)
		require.NoError(t, err)
		assert.Zero(t, res.Sent, reuse)
		b.done(second)
		b.same(second)
		plan, err := b.records(second).plan()
		require.NoError(t, err)
		assert.Equal(t, volumes.SegmentSize, plan.Stride)
	}
}

// TestLostObjects: a backup whose predecessor has lost an object is made all the same, and says so.
func TestLostObjects(t *testing.T) {
	for _, reuse := range []Reuse{Checksum, Mtime} {
		b := newBench(t)
		first := b.taken("1")
		lost := first.Base + "data_0001.tar.zst"
		require.NoError(t, b.store.Delete(t.Context(), lost))
		second := b.job("2", 1)
		second.Reuse, second.Previous = reuse, first.Base
		res, err := Copy(t.Context(), second)
		require.NoError(t, err)
		assert.Equal(t, []string{lost}, res.Lost)
		assert.Positive(t, res.Sent)
		b.done(second)
		b.same(second)
	}
}

// rewrite changes the stored records.
func (b *bench) rewrite(job Job, change func(name, text string) string) {
	stored := b.records(job)
	var out bytes.Buffer
	z, err := zstd.NewWriter(&out)
	require.NoError(b.t, err)
	w := tar.NewWriter(z)
	for name := range stored.at {
		_, err := stored.read(name, func(in io.Reader) error {
			text, err := io.ReadAll(in)
			require.NoError(b.t, err)
			changed := change(name, string(text))
			require.NoError(b.t, w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Size: int64(len(changed)), Mode: 0o600}))
			_, err = io.WriteString(w, changed)
			return err
		})
		require.NoError(b.t, err)
	}
	require.NoError(b.t, errors.Join(w.Close(), z.Close()))
	require.NoError(b.t, b.store.Delete(b.t.Context(), job.Base+recordsKey))
	_, err = b.store.Put(b.t.Context(), job.Base+recordsKey, &out, objstore.PutOptions{})
	require.NoError(b.t, err)
}

// TestWhatAKilledWriterLeft in the journal goes with the next attempt.
func TestWhatAKilledWriterLeft(t *testing.T) {
	b := newBench(t)
	job := b.job("1", 1)
	_, err := Copy(t.Context(), job)
	require.NoError(t, err)
	left := filepath.Join(job.WorkDir, "run-volumes", atomicfile.TempPrefix+"data_0001.tar.record")
	for _, step := range []func() error{func() error { _, err := Copy(t.Context(), job); return err }, func() error { b.done(job); return nil }} {
		require.NoError(t, os.WriteFile(left, []byte("half"), 0o600))
		require.NoError(t, step())
		assert.NoFileExists(t, left)
	}
	b.same(job)
}

// TestDamagedRecords of the backup before cost what reuse saves, not the backup.
func TestDamagedRecords(t *testing.T) {
	b := newBench(t)
	first := b.taken("1")
	require.NoError(t, b.store.Delete(t.Context(), first.Base+recordsKey))
	_, err := b.store.Put(t.Context(), first.Base+recordsKey, strings.NewReader("no records"), objstore.PutOptions{})
	require.NoError(t, err)
	second := b.job("2", 1)
	second.Reuse, second.Previous = Checksum, first.Base
	res, err := Copy(t.Context(), second)
	require.NoError(t, err)
	assert.Contains(t, res.Unusable, first.Base+recordsKey)
	assert.Equal(t, res.Stored, res.Sent)
	b.done(second)
	b.same(second)
}

// TestRecordsAndAFullDisk: the disk is what is named, not the store.
func TestRecordsAndAFullDisk(t *testing.T) {
	b := newBench(t)
	first := b.taken("1")
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	require.NoError(t, err)
	defer full.Close()
	_, err = eachStored(t.Context(), b.store, first.Base, (&packed{file: full, at: map[string]span{}}).add)
	assert.True(t, fault.Is(err, fault.Disk), err)
	assert.ErrorContains(t, err, "write /dev/full")
}
