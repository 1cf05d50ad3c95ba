//go:build integration

package pagesum_test

import (
	"encoding/binary"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/holdfast-pg/holdfast/internal/datadir"
	"github.com/holdfast-pg/holdfast/internal/pagesum"
	"github.com/holdfast-pg/holdfast/internal/pgcontrol"
	"github.com/holdfast-pg/holdfast/internal/pgtest"
	"github.com/holdfast-pg/holdfast/internal/wal"
)

// TestPagesOfRealClusters: all are good, and pg_checksums agrees about a file that is
// not the first of its relation and about a page with a flipped bit.
func TestPagesOfRealClusters(t *testing.T) {
	for _, version := range pgtest.AllVersions() {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			c := pgtest.Start(t, pgtest.Options{Version: version, OneDatabase: true})
			c.Fill(t, "filled", "", 10_000)
			table := c.Value(t, "pg_relation_filepath('filled')")
			c.Stop(t, pgtest.Fast)
			control, err := pgcontrol.Read(filepath.Join(c.DataDir, "global/pg_control"))
			require.NoError(t, err)
			require.True(t, control.PageChecksums)
			judge := pagesum.Judge{BlockSize: int(control.BlockSize), RelationBlocks: control.RelationBlocks, Start: wal.LSN(1) << 63}

			found := map[pagesum.Verdict]int{}
			require.NoError(t, filepath.WalkDir(c.DataDir, func(path string, d fs.DirEntry, err error) error {
				rel, _ := filepath.Rel(c.DataDir, path)
				if err != nil || d.IsDir() || !datadir.IsRelation(rel) {
					return err
				}
				data, err := os.ReadFile(path)
				relation, _ := datadir.ParseRelation(filepath.Base(rel))
				for i := 0; i < len(data); i += judge.BlockSize {
					found[judge.Page(data[i:i+judge.BlockSize], judge.First(relation.Segment)+uint32(i/judge.BlockSize))]++
				}
				return err
			}))
			assert.Greater(t, found[pagesum.Good], 800)
			assert.Zero(t, found[pagesum.Bad])
			assert.Zero(t, found[pagesum.Recent])

			path := filepath.Join(c.DataDir, table)
			data, err := os.ReadFile(path)
			require.NoError(t, err)
			page := data[judge.BlockSize : 2*judge.BlockSize]

			// The first page of a relation's third file.
			third := append([]byte(nil), page...)
			binary.LittleEndian.PutUint16(third[8:], pagesum.Sum(third, judge.First(2)))
			require.NoError(t, os.WriteFile(path+".2", third, 0o600))
			require.NoError(t, os.Chmod(path+".2", 0o644))
			out, err := pgChecksums(t, c)
			require.NoError(t, err, out)

			// A bit of eight pages each, but not of their headers.
			var bad int
			for i := range 8 {
				at := i * judge.BlockSize
				flipped := rand.IntN(8 * (judge.BlockSize - 24))
				data[at+24+flipped/8] ^= 1 << (flipped % 8)
				if judge.Page(data[at:at+judge.BlockSize], uint32(i)) == pagesum.Bad {
					bad++
				}
			}
			require.NoError(t, os.WriteFile(path, data, 0o600))
			assert.GreaterOrEqual(t, bad, 6, "16 bits tell nearly all")
			out, err = pgChecksums(t, c)
			assert.Error(t, err)
			assert.Equal(t, bad, strings.Count(out, "checksum verification failed in file"), out)
		})
	}
}

// pgChecksums leaves the cluster as it is.
func pgChecksums(t *testing.T, c *pgtest.Cluster) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), filepath.Join(c.BinDir, "pg_checksums"), "--check", "-D", c.DataDir)
	cmd.Dir, cmd.Env = "/", append(os.Environ(), "LC_ALL=C")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: pgtest.Credential(t)}
	out, err := cmd.CombinedOutput()
	return string(out), err
}
