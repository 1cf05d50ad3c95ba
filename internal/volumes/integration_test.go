//go:build integration

package volumes

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/holdfast-pg/holdfast/internal/datadir"
	"github.com/holdfast-pg/holdfast/internal/pagesum"
	"github.com/holdfast-pg/holdfast/internal/pg"
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

			// Only what has been left alone for a while can be known to be unchanged.
			table := filepath.Join(c.DataDir, c.Value(t, "pg_relation_filepath('plain')"))
			require.Eventually(t, func() bool {
				st, err := os.Stat(table)
				return err == nil && time.Since(st.ModTime()) > datadir.Settled
			}, time.Minute, 50*time.Millisecond)
			first := take(t, c, nil)
			assert.NotContains(t, paths(first.trees[0].Files), unlogged)
			assert.Contains(t, paths(first.trees[0].Files), unlogged+"_init")
			// The second one consists of the first one's segments as far as files are unchanged.
			second := take(t, c, first)
			assert.Less(t, second.read, first.read-4<<20, "the table alone has more")
			stopLoad()
			<-loaded
			require.Eventually(t, func() bool {
				return c.Value(t, "(SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pgbench')") == "0"
			}, time.Minute, 20*time.Millisecond)

			roots := map[string]string{}
			dest := pgtest.Dir(t)
			for _, tree := range second.trees {
				roots[tree.Name] = filepath.Join(dest, tree.Name)
				require.NoError(t, os.Mkdir(roots[tree.Name], 0o700))
				for _, a := range second.archives[tree.Name] {
					unpack(t, roots[tree.Name], a)
				}
			}
			data := roots[DataTree]
			for _, tree := range second.trees[1:] {
				require.NoError(t, os.Symlink(roots[tree.Name], filepath.Join(data, "pg_tblspc", tree.Name)))
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

// backup is one that is kept in memory.
type backup struct {
	trees    []Tree
	plan     *Plan
	stores   map[string]store // by tree
	archives map[string][]archived
	read     int64
}

// take takes a backup of a running server, upon a previous one unless that is nil.
func take(t *testing.T, c *pgtest.Cluster, prev *backup) *backup {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	session, err := pg.OpenSession(ctx, c.DSN())
	require.NoError(t, err)
	defer session.Close()
	start, err := session.Start(ctx, "volumes", true)
	require.NoError(t, err)
	begin, err := wal.ParseLSN(start.LSN)
	require.NoError(t, err)
	id, err := strconv.ParseUint(start.Facts.SystemID, 10, 64)
	require.NoError(t, err)
	_, control, err := ReadControl(ctx, c.DataDir, id)
	require.NoError(t, err)
	require.True(t, control.PageChecksums)

	cluster := Cluster{DataDir: start.Facts.DataDirectory, Major: start.Facts.Version / 10000, CatalogVersion: control.CatalogVersion}
	for _, s := range start.Facts.Tablespaces {
		cluster.Tablespaces = append(cluster.Tablespaces, Tablespace{s.OID, s.Location})
	}
	b := &backup{stores: map[string]store{}, archives: map[string][]archived{}}
	b.trees, err = List(ctx, cluster)
	require.NoError(t, err)
	require.Len(t, b.trees, 3)
	roots := map[string]string{}
	for _, tree := range b.trees {
		roots[tree.Name], b.stores[tree.Name] = tree.Root, newStore()
	}
	before := &backup{stores: map[string]store{}}
	if prev != nil {
		before = prev
	}
	b.plan = Cut(b.trees, 8<<20, before.plan)
	require.Greater(t, len(b.plan.Volumes), 3)

	r := &Reader{Buffers: NewBuffers(3), Judge: &pagesum.Judge{BlockSize: int(control.BlockSize), RelationBlocks: control.RelationBlocks, Start: begin}}
	var checked int64
	for _, v := range b.plan.Volumes {
		a, n := readUpon(t, r, before.stores[v.Tree], roots[v.Tree], v.Files)
		b.read += n
		for _, m := range a.Members {
			checked += m.Pages.Checked
			assert.Zero(t, m.Pages.Bad, "%s: %v", m.Path, m.Pages.Blocks)
		}
		b.stores[v.Tree].add(v.Name(), a)
		b.archives[v.Tree] = append(b.archives[v.Tree], a)
	}
	assert.Greater(t, checked, int64(3000))
	pgControl, _, err := ReadControl(ctx, c.DataDir, id)
	require.NoError(t, err)
	stop, err := session.Stop(ctx)
	require.NoError(t, err)
	label, err := Label(c.DataDir, stop.Label, stop.At)
	require.NoError(t, err)
	for i, tree := range b.trees {
		var inline []Inline
		if i == 0 {
			inline = []Inline{pgControl, label}
		}
		var a archived
		a.Result, err = r.Plain(ctx, tree, nil, inline, collect(t, &a, nil))
		require.NoError(t, err)
		b.archives[tree.Name] = append(b.archives[tree.Name], a)
	}
	return b
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
