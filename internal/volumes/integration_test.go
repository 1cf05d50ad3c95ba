//go:build integration

package volumes

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/holdfast-pg/holdfast/internal/pagesum"
	"github.com/holdfast-pg/holdfast/internal/pg"
	"github.com/holdfast-pg/holdfast/internal/pgcontrol"
	"github.com/holdfast-pg/holdfast/internal/pgtest"
	"github.com/holdfast-pg/holdfast/internal/wal"
)

// TestRealCluster takes the volumes of a cluster that is written to, unpacks them
// with tar(1), and starts what comes out.
func TestRealCluster(t *testing.T) {
	for _, version := range pgtest.Versions() {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			archiveDir := pgtest.Dir(t)
			c := pgtest.Start(t, pgtest.Options{Version: version, Tablespaces: []string{"fast", "empty"}, ArchiveCommand: "cp %p " + archiveDir + "/%f", OneDatabase: true,
				Config: []string{"checkpoint_timeout = 30s", "max_wal_size = 64MB", "full_page_writes = on"}})
			c.Fill(t, "plain", "", 20_000)
			c.Fill(t, "elsewhere", "fast", 5_000)
			c.Exec(t, "CREATE UNLOGGED TABLE scratch AS SELECT generate_series(1, 10000) AS n")
			unlogged := c.Value(t, "pg_relation_filepath('scratch')")
			c.Exec(t, "CHECKPOINT")
			pgbench(t, c, "-i", "-q", "-s", "3")
			load, stopLoad := context.WithCancel(t.Context())
			loaded := make(chan error, 1)
			go func() {
				loaded <- benchCommand(load, t, c, "-n", "-c", "4", "-T", "600").Run()
			}()
			require.Eventually(t, func() bool {
				return c.Value(t, "(SELECT count(*) FROM pgbench_history)") != "0"
			}, time.Minute, 20*time.Millisecond)

			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
			defer cancel()
			session, err := pg.OpenSession(ctx, c.DSN())
			require.NoError(t, err)
			defer session.Close()
			start, err := session.Start(ctx, "volumes", true)
			require.NoError(t, err)
			begin, err := wal.ParseLSN(start.LSN)
			require.NoError(t, err)
			control, err := pgcontrol.Read(filepath.Join(c.DataDir, "global/pg_control"))
			require.NoError(t, err)
			require.True(t, control.PageChecksums)

			cluster := Cluster{DataDir: start.Facts.DataDirectory, Major: start.Facts.Version / 10000, CatalogVersion: control.CatalogVersion}
			for _, s := range start.Facts.Tablespaces {
				cluster.Tablespaces = append(cluster.Tablespaces, Tablespace{s.OID, s.Location})
			}
			trees, err := List(ctx, cluster)
			require.NoError(t, err)
			require.Len(t, trees, 3)
			assert.NotContains(t, paths(trees[0].Files), unlogged)
			assert.Contains(t, paths(trees[0].Files), unlogged+"_init")

			dest := pgtest.Dir(t)
			roots := map[string]string{}
			r := &Reader{Buffers: NewBuffers(3), Judge: &pagesum.Judge{BlockSize: int(control.BlockSize), RelationBlocks: control.RelationBlocks, Start: begin}}
			var checked int64
			keep := func(a archived, tree string) {
				for _, m := range a.Members {
					checked += m.Pages.Checked
					assert.Zero(t, m.Pages.Bad, "%s: %v", m.Path, m.Pages.Blocks)
				}
				unpack(t, roots[tree], a)
			}
			for _, tree := range trees {
				roots[tree.Name] = filepath.Join(dest, tree.Name)
				require.NoError(t, os.Mkdir(roots[tree.Name], 0o700))
			}
			plan := Cut(trees, 8<<20, nil)
			require.Greater(t, len(plan.Volumes), 3)
			for _, v := range plan.Volumes {
				for _, tree := range trees {
					if tree.Name == v.Tree {
						keep(read(t, r, tree.Root, v.Files, nil), v.Tree)
					}
				}
				// The load goes on in the middle of the backup.
				time.Sleep(50 * time.Millisecond)
			}
			assert.Greater(t, checked, int64(3000))

			id, err := strconv.ParseUint(start.Facts.SystemID, 10, 64)
			require.NoError(t, err)
			pgControl, _, err := ReadControl(ctx, c.DataDir, id)
			require.NoError(t, err)
			stop, err := session.Stop(ctx)
			require.NoError(t, err)
			stopLoad()
			<-loaded
			require.Eventually(t, func() bool {
				return c.Value(t, "(SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pgbench')") == "0"
			}, time.Minute, 20*time.Millisecond)
			label, err := Label(c.DataDir, stop.Label, stop.At)
			require.NoError(t, err)
			for i, tree := range trees {
				var inline []Inline
				if i == 0 {
					inline = []Inline{pgControl, label}
				}
				var a archived
				a.Result, err = r.Plain(ctx, tree, nil, inline, collect(t, &a, nil))
				require.NoError(t, err)
				keep(a, tree.Name)
			}

			data := roots[DataTree]
			for _, s := range cluster.Tablespaces {
				require.NoError(t, os.Symlink(roots[strconv.FormatUint(uint64(s.OID), 10)], filepath.Join(data, "pg_tblspc", fmt.Sprint(s.OID))))
			}
			require.NoError(t, os.WriteFile(filepath.Join(data, "recovery.signal"), nil, 0o600))
			want := c.Fingerprint(t)
			last := c.Value(t, "pg_walfile_name(pg_current_wal_lsn())")
			c.Exec(t, "SELECT pg_switch_wal()")
			require.Eventually(t, func() bool {
				_, err := os.Stat(filepath.Join(archiveDir, last))
				return err == nil
			}, time.Minute, 20*time.Millisecond)
			restored := pgtest.NewFromDataDir(t, version, data, "restore_command=cp "+archiveDir+"/%f %p")
			assert.Equal(t, want, restored.Fingerprint(t))
			assert.Equal(t, "0", restored.Value(t, "(SELECT count(*) FROM scratch)"), "an unlogged table is empty")
			restored.AmCheck(t)
		})
	}
}

func benchCommand(ctx context.Context, t *testing.T, c *pgtest.Cluster, args ...string) *exec.Cmd {
	t.Helper()
	program := filepath.Join(c.BinDir, "pgbench")
	return exec.CommandContext(ctx, program, append(args, "-h", "127.0.0.1", "-p", strconv.Itoa(c.Port), "-U", "postgres", "postgres")...)
}

func pgbench(t *testing.T, c *pgtest.Cluster, args ...string) {
	t.Helper()
	var out bytes.Buffer
	cmd := benchCommand(t.Context(), t, c, args...)
	cmd.Stdout, cmd.Stderr = &out, &out
	require.NoError(t, cmd.Run(), "%s", &out)
}
