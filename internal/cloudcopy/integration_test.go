//go:build integration

package cloudcopy

import (
	"crypto/md5"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/internal/objstore"
	"github.com/holdfast-pg/holdfast/internal/objstore/s3"
	"github.com/holdfast-pg/holdfast/internal/objstore/storetest"
)

// runs are the lengths of the runs of a backup's segments.
func (b *bench) runs(job Job) map[[sha256.Size]byte]int64 {
	stored, out := b.records(job), map[[sha256.Size]byte]int64{}
	for name := range stored.at {
		archive, is := strings.CutSuffix(name, recordSuffix)
		if !is {
			continue
		}
		e, err := stored.entry(archive)
		require.NoError(b.t, err)
		for _, s := range e.Record.Segments {
			out[s.SHA256] = s.Length
		}
	}
	return out
}

// TestWhatAChangeCosts counts the bytes that go to an S3 store after 2 % of the rows have
// changed, in ranges all over a large table: those of the changed segments, and of what is
// sent again because parts have a least size.
func TestWhatAChangeCosts(t *testing.T) {
	g := storetest.StartGateway(t, "bucket")
	g.Setenv(t)
	at, err := objstore.ParseURL("s3://bucket/some/where")
	require.NoError(t, err)
	var policy objstore.Policy
	store, err := s3.Open(t.Context(), at, config.CloudOptions{HoldfastEndpointURL: g.URL}, &policy)
	require.NoError(t, err)
	b := newBench(t)
	const size, row = 320 << 20, 64
	rows := make([]byte, 0, size)
	for i := 0; len(rows) < size; i++ {
		rows = fmt.Appendf(rows, "%32x%032d", md5.Sum(fmt.Append(nil, i)), i)
	}
	b.put("base/5/30000", string(rows))
	job := func(id string, reuse Reuse, previous string) Job {
		j := b.job(id, 1)
		j.Store, j.VolumeSize, j.Reuse, j.Previous = store, 512<<20, reuse, previous
		return j
	}
	first := job("first", Off, "")
	_, err = Copy(t.Context(), first)
	require.NoError(t, err)
	b.done(first)

	previous := first
	for _, ranges := range []int64{5, 20, 40, 160} {
		f, err := os.OpenFile(filepath.Join(b.data, "base/5/30000"), os.O_WRONLY, 0)
		require.NoError(t, err)
		for r := range ranges {
			at := (size/ranges*r + size/ranges/2) / row * row
			changed := rows[at : at+size/50/ranges/row*row]
			for n := 0; n < len(changed); n += row {
				copy(changed[n:], fmt.Sprintf("%32x", md5.Sum(fmt.Append(nil, "changed", ranges, n))))
			}
			_, err := f.WriteAt(changed, at)
			require.NoError(t, err)
		}
		require.NoError(t, f.Close())
		job := job(fmt.Sprint(ranges), Checksum, previous.Base)
		before, asked := policy.Counts.Sent.Load(), policy.Counts.Requests.Load()
		_, err = Copy(t.Context(), job)
		require.NoError(t, err)
		// What a weaving that was killed leaves is no part of the backup.
		_, err = store.Put(t.Context(), job.Base+"data_0001.tar.zst.part-3-1", strings.NewReader("left"), objstore.PutOptions{})
		require.NoError(t, err)
		b.done(job)
		for o, err := range store.List(t.Context(), job.Base) {
			require.NoError(t, err)
			require.NotContains(t, o.Key, ".part-")
		}
		sent, requests := policy.Counts.Sent.Load()-before, policy.Counts.Requests.Load()-asked

		var changed, all int64
		was := b.runs(previous)
		for sum, length := range b.runs(job) {
			all += length
			if _, same := was[sum]; !same {
				changed += length
			}
		}
		t.Logf("%d ranges: %d bytes sent in %d requests, changed segments have %d of %d", ranges, sent, requests, changed, all)
		require.Less(t, changed, all/2)
		require.LessOrEqual(t, float64(sent), 1.3*float64(changed)+10e6)
		previous = job
	}
}
