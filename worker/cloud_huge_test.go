//go:build integration

package main

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/minio/highwayhash"
	"google.golang.org/protobuf/proto"

	"github.com/holdfast-pg/holdfast/internal/backup"
	"github.com/holdfast-pg/holdfast/internal/bundle"
	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/internal/datadir"
	"github.com/holdfast-pg/holdfast/internal/frame"
	"github.com/holdfast-pg/holdfast/internal/lanes"
	"github.com/holdfast-pg/holdfast/internal/pgtest"
	"github.com/holdfast-pg/holdfast/internal/stacktest"
	"github.com/holdfast-pg/holdfast/internal/volumes"
	"github.com/holdfast-pg/holdfast/workflows"
)

const (
	hugeFiles   = 10 << 10 // of a gigabyte each
	hugeHistory = 64 << 10 // bytes, at most
	hugeMemory  = 150 << 20
)

// huge are 10 TB of a cluster: files with nothing but zeros, which take no room.
func huge(t *testing.T, c *pgtest.Cluster) volumes.Tree {
	t.Helper()
	tree := volumes.Tree{Name: volumes.DataTree, Root: c.DataDir}
	database := c.Value(t, "(select min(oid) from pg_database)")
	settled := time.Now().Add(-time.Hour)
	for i := range hugeFiles {
		name := fmt.Sprintf("base/%s/4000000000.%d", database, i+1)
		path := filepath.Join(tree.Root, name)
		err := errors.Join(os.WriteFile(path, nil, 0o600), os.Truncate(path, 1<<30), os.Chtimes(path, settled, settled))
		if cred := pgtest.Credential(t); cred != nil {
			err = errors.Join(err, os.Chown(path, int(cred.Uid), int(cred.Gid)))
		}
		if err != nil {
			t.Fatal(err)
		}
		tree.Files = append(tree.Files, volumes.File{Path: name, Size: 1 << 30})
	}
	return tree
}

// hugeBackup puts into a stored backup what it had if a cluster of 10 TB had been read for it. The objects
// and the records are the same to the byte; only that nobody waited for the reading.
type hugeBackup struct {
	t       *testing.T
	dir     string // of the objects
	base    string // prefix of their keys
	codec   frame.Codec
	encoder *frame.Encoder
	reader  volumes.Reader
	zeros   bundle.Segment
	run     []byte // of zeros
	records *tar.Writer
}

func (h *hugeBackup) must(err error) {
	h.t.Helper()
	if err != nil {
		h.t.Fatal(err)
	}
}

// segment compresses what was read.
func (h *hugeBackup) segment(data []byte) (bundle.Segment, []byte) {
	run, sum, err := h.encoder.Append(nil, data)
	h.must(err)
	return bundle.Segment{Length: int64(len(run)), CRC32C: crc32.Checksum(run, castagnoli), Sum: sum, SHA256: lanes.Sum(data),
		Tag: highwayhash.Sum128(data, new(bundle.TagKey)[:])}, run
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// volume stores one, and its records.
func (h *hugeBackup) volume(root string, v volumes.Volume) {
	h.reader.Known = func(path string, now datadir.Attributes) (volumes.Stored, bool) {
		return volumes.Stored{Member: volumes.Member{Path: path, Size: now.Size, Source: now.Identity, Read: time.Now()}, SegmentSize: h.reader.Stride}, true
	}
	record := &bundle.Record{Key: h.base + v.Name() + h.codec.Suffix(), Codec: h.codec.String(), Hash: bundle.Lanes, TagKey: new(bundle.TagKey)}
	object := h.codec.Head()
	var all frame.Sum
	res, err := h.reader.Volume(h.t.Context(), root, v, func(s volumes.Segment) error {
		one, run := h.zeros, h.run
		if s.Data != nil {
			one, run = h.segment(s.Data)
			s.Release()
		}
		record.Segments, object, all = append(record.Segments, one), append(object, run...), all.Join(one.Sum)
		return nil
	})
	h.must(err)
	object = append(object, h.codec.Tail(all)...)
	record.Size, record.CRC32C = int64(len(object)), crc32.Checksum(object, castagnoli)
	for i := range res.Members {
		res.Members[i].SumUp(func(int) ([32]byte, int64) { return h.zeros.SHA256, h.zeros.Sum.Size })
	}
	path := filepath.Join(h.dir, filepath.Base(record.Key))
	if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
		h.must(err)
	}
	h.must(os.WriteFile(path, object, 0o644))
	var entry bytes.Buffer
	segments := record.Segments
	record.Segments = nil
	h.must(json.NewEncoder(&entry).Encode(map[string]any{"record": record, "sent": record.Size, "took": time.Second, "content": all.Size}))
	h.must(bundle.WriteSegments(&entry, segments))
	h.record(v.Name()+".record", entry.Bytes())
	var members bytes.Buffer
	h.must(volumes.WriteMembers(&members, res.Members))
	h.record(v.Name()+".members", members.Bytes())
}

func (h *hugeBackup) record(name string, data []byte) {
	h.must(h.records.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Size: int64(len(data)), Mode: 0o600}))
	_, err := h.records.Write(data)
	h.must(err)
}

// stateOf is the first of a backup's records.
func stateOf(path string) (data []byte, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	z, err := zstd.NewReader(f)
	if err != nil {
		return nil, err
	}
	defer z.Close()
	in := tar.NewReader(z)
	if h, err := in.Next(); err != nil || h.Name != "state.json" {
		return nil, fmt.Errorf("the records do not begin with the state: %v, %w", h, err)
	}
	return io.ReadAll(in)
}

// enlarge makes a stored backup one of 10 TB.
func (c *cloud) enlarge(t *testing.T, id backup.ID, tree volumes.Tree) *volumes.Plan {
	t.Helper()
	h := &hugeBackup{t: t, base: fmt.Sprintf("%s/base/%s/", stacktest.Server, id), reader: volumes.Reader{Buffers: volumes.NewBuffers(2)}}
	h.dir = filepath.Join(c.Data(cloudBucket), "some/where", h.base)
	stored := filepath.Join(h.dir, "holdfast/records.tar.zst")
	text, err := stateOf(stored)
	h.must(err)
	var state struct {
		Codec string `json:"codec"`
	}
	h.must(json.Unmarshal(text, &state))
	h.codec, err = frame.Parse(state.Codec)
	h.must(err)
	h.encoder, err = h.codec.NewEncoder()
	h.must(err)
	defer h.encoder.Close()
	h.must(os.Remove(stored))
	out, err := os.Create(stored)
	h.must(err)
	defer out.Close()
	z, err := zstd.NewWriter(out)
	h.must(err)
	h.records = tar.NewWriter(z)
	plan := volumes.Cut([]volumes.Tree{tree}, volumes.Limit(0, 1<<40, tree.Size(), nil), nil)
	h.reader.Stride = plan.Stride
	h.zeros, h.run = h.segment(make([]byte, plan.Stride))
	var planned bytes.Buffer
	_, err = plan.WriteTo(&planned)
	h.must(err)
	h.record("state.json", text)
	h.record("plan", planned.Bytes())
	for _, v := range plan.Volumes {
		h.volume(tree.Root, v)
	}
	h.must(errors.Join(h.records.Close(), z.Close()))
	return plan
}

// TestTenTerabytes: the backup of a cluster of 10 TB that has not changed, made by the processes that users
// run, has a small history, and they need no more memory than for a small one.
func TestTenTerabytes(t *testing.T) {
	t.Parallel()
	c := newCloud(t)
	settings := []string{"basebackups_directory = " + cloudURL, "holdfast_endpoint_url = " + c.proxy.URL, "holdfast_cloud_reuse = mtime", "parallel_jobs = 4"}
	b := newBedWith(t, stacktest.Options{Version: pgtest.Versions()[1], Method: config.MethodLocalToCloud, Env: c.Environment(), Settings: settings})
	b.cloud = c
	count := c.counted()
	first := b.backup(t)
	count().within(t, firstBill(&volumes.Plan{}, 1))
	tree := huge(t, b.Cluster)
	plan := c.enlarge(t, first.ID, tree)
	count = c.counted()
	began := time.Now()
	second := b.backup(t)
	t.Logf("%d volumes, taken in %s", len(plan.Volumes), time.Since(began))
	count().within(t, unchangedBill(plan))
	info, err := b.cat.Get(second.ID)
	if err != nil || info.Size == nil {
		t.Fatal(err)
	}
	extra, err := b.cat.Extra(second.ID)
	if err != nil || extra.Sent > 1<<30 {
		t.Errorf("%d bytes were sent, %v", extra.Sent, err)
	}
	if made := len(c.keys(t, second.ID)); made < hugeFiles/4 {
		t.Errorf("it has %d objects", made)
	}
	h := b.historyOf(t, workflows.BackupID(stacktest.Server))
	size := proto.Size(h)
	t.Logf("%d events, %d bytes", len(h.Events), size)
	if size > hugeHistory {
		t.Errorf("its history has %d bytes", size)
	}
	for _, role := range []string{"workflow", "copy", "keeper"} {
		rss := b.PeakRSS(t, role)
		t.Logf("%s: %d MB", role, rss>>20)
		if rss > hugeMemory {
			t.Errorf("the %s worker needed %d MB", role, rss>>20)
		}
	}
}
