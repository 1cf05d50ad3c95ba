package activities

import (
	"context"
	"encoding/binary"
	"hash/crc32"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/testsuite"

	"github.com/holdfast-pg/holdfast/internal/backup"
	"github.com/holdfast-pg/holdfast/internal/backupinfo"
	"github.com/holdfast-pg/holdfast/internal/catalog"
	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/internal/datadir"
	"github.com/holdfast-pg/holdfast/internal/manifest"
	"github.com/holdfast-pg/holdfast/internal/rsync"
)

type oneServer struct{ s *config.Server }

func (o oneServer) Server(string) (*config.Server, error) { return o.s, nil }

// filesCase is a server with files, and a backup of it that has begun.
type filesCase struct {
	root, pgdata, etc string
	server            *config.Server
	cat               *catalog.Catalog
	info              *backupinfo.Info
}

const filesSystem = "7000000000000000001"

func newFilesCase(t *testing.T) *filesCase {
	t.Helper()
	root := t.TempDir()
	c := &filesCase{root: root, pgdata: filepath.Join(root, "pgdata"), etc: filepath.Join(root, "pgdata2")}
	at := time.Now().Add(-time.Hour)
	control := make([]byte, 8192)
	binary.LittleEndian.PutUint64(control, 7000000000000000001)
	binary.LittleEndian.PutUint32(control[8:], 1300)
	binary.LittleEndian.PutUint32(control[288:], crc32.Checksum(control[:288], crc32.MakeTable(crc32.Castagnoli)))
	for rel, text := range map[string]string{
		"pgdata/global/pg_control": string(control), "pgdata/base/1/1": "relation", "pgdata/pg_wal/000000010000000000000001": "wal",
		"pgdata/pg_tblspc/x": "", "pgdata/inner space/PG_15_1/5/1": "inner", "outer/PG_15_1/5/1": "outer", "outer/PG_14_1/5/1": "old major",
		"pgdata2/postgresql.conf": "conf", "pgdata2/pg_hba.conf": "hba", "pgdata2/extra.conf": "extra",
	} {
		path := filepath.Join(root, rel)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o700))
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		require.NoError(t, os.Chtimes(path, at, at))
	}
	dir := filepath.Join(root, "barman", "main")
	c.server = &config.Server{Name: "main", MetaDirectory: filepath.Join(dir, "meta"), LockDirectory: root}
	c.server.BackupDirectory, c.server.BasebackupsDirectory, c.server.WALsDirectory = dir, filepath.Join(dir, "base"), filepath.Join(dir, "wals")
	c.server.XlogDBDirectory, c.server.IncomingWALsDirectory = filepath.Join(dir, "wals"), filepath.Join(dir, "incoming")
	c.server.StreamingWALsDirectory, c.server.ErrorsDirectory = filepath.Join(dir, "streaming"), filepath.Join(dir, "errors")
	c.server.ParallelJobs, c.server.ParallelJobsStartBatchSize, c.server.ParallelJobsStartPeriod = 2, 10, time.Second
	c.cat = catalog.Open(catalog.LayoutOf(c.server))
	require.NoError(t, c.cat.EnsureDirs())
	c.begin(t, "20260102T030405")
	return c
}

// begin files a backup as RecordBegin leaves it.
func (c *filesCase) begin(t *testing.T, id backup.ID) {
	t.Helper()
	system, version, mode, now := filesSystem, 150004, "rsync-concurrent", time.Now()
	conf, hba, ident := filepath.Join(c.etc, "postgresql.conf"), filepath.Join(c.etc, "pg_hba.conf"), filepath.Join(c.etc, "pg_ident.conf")
	c.info = &backupinfo.Info{ID: id, ServerName: "main", Status: backup.Started, SystemID: &system, Version: &version, Mode: &mode, BeginTime: &now,
		PGData: &c.pgdata, ConfigFile: &conf, HBAFile: &hba, IdentFile: &ident,
		IncludedFiles: []string{filepath.Join(c.etc, "extra.conf"), filepath.Join(c.pgdata, "postgresql.auto.conf")},
		Tablespaces:   []backupinfo.Tablespace{{Name: "out", OID: 17001, Location: filepath.Join(c.root, "outer")}, {Name: "in", OID: 17002, Location: filepath.Join(c.pgdata, "inner space")}}}
	require.NoError(t, c.cat.Create(c.info))
}

func (c *filesCase) copy(t *testing.T, attempt int) (Copied, error) {
	t.Helper()
	var suite testsuite.WorkflowTestSuite
	env := suite.NewTestActivityEnvironment()
	f := &Files{Servers: oneServer{c.server}}
	env.RegisterActivity(f)
	var copied Copied
	v, err := env.ExecuteActivity(f.CopyFiles, Ref{Request: Request{Server: "main"}, ID: c.info.ID, Attempt: attempt})
	if err == nil {
		err = v.Get(&copied)
	}
	return copied, err
}

func TestCopyFiles(t *testing.T) {
	c := newFilesCase(t)
	copied, err := c.copy(t, 1)
	require.NoError(t, err)
	base := c.cat.BackupDirOf(c.info.ID)
	for rel, want := range map[string]string{
		"data/base/1/1": "relation", "17001/PG_15_1/5/1": "outer", "17002/PG_15_1/5/1": "inner", "data/postgresql.conf": "conf", "data/pg_hba.conf": "hba",
	} {
		b, err := os.ReadFile(filepath.Join(base, rel))
		require.NoError(t, err)
		assert.Equal(t, want, string(b))
	}
	for _, rel := range []string{"data/inner space", "17001/PG_14_1", "data/pg_ident.conf", "data/extra.conf", "data/pg_wal/000000010000000000000001"} {
		assert.NoFileExists(t, filepath.Join(base, rel))
		assert.NoDirExists(t, filepath.Join(base, rel))
	}
	assert.Equal(t, int64(6), copied.Files)
	assert.Equal(t, int64(6), copied.SentFiles)
	require.Len(t, copied.Warnings, 1)
	assert.Contains(t, copied.Warnings[0], "extra.conf")
	assert.NotContains(t, copied.Warnings[0], "auto.conf")
	report, err := manifest.Verify(context.Background(), filepath.Join(c.cat.WorkDir(c.info.ID), "backup_manifest"),
		manifest.Dirs{Data: filepath.Join(base, "data"), Tablespaces: map[uint32]string{17001: filepath.Join(base, "17001"), 17002: filepath.Join(base, "17002")}}, manifest.Options{Jobs: 1})
	require.NoError(t, err)
	require.NoError(t, report.Err(""))

	c.server.ExternalConfiguration = true
	copied, err = c.copy(t, 2)
	require.NoError(t, err)
	assert.Empty(t, copied.Warnings)
	assert.Equal(t, int64(3), copied.ReusedFiles)
	assert.Equal(t, int64(3), copied.SentFiles, "configuration files and pg_control")
}

func TestCopyFilesReusesThePreviousBackup(t *testing.T) {
	c := newFilesCase(t)
	_, err := c.copy(t, 1)
	require.NoError(t, err)
	first := c.info
	first.Status = backup.Done
	require.NoError(t, c.cat.Save(first))
	c.server.ReuseBackup = "link"

	// A newer backup of another method has no such files.
	c.begin(t, "20260103T030405")
	other := "postgres"
	c.info.Mode, c.info.Status = &other, backup.Done
	require.NoError(t, c.cat.Save(c.info))

	c.begin(t, "20260104T030405")
	// A tablespace that is new since.
	c.info.Tablespaces[0].OID = 17009
	require.NoError(t, c.cat.Save(c.info))
	job, err := planFiles(c.server, c.cat, c.info, datadir.Below)
	require.NoError(t, err)
	assert.Equal(t, rsync.ReuseLink, job.Reuse)
	assert.Empty(t, job.Trees[0].Previous)
	assert.Equal(t, c.cat.TablespaceDir(first.ID, 17002), job.Trees[1].Previous)
	assert.Equal(t, c.cat.DataDir(first.ID), job.Trees[2].Previous)
	copied, err := c.copy(t, 1)
	require.NoError(t, err)
	assert.Equal(t, int64(4), copied.SentFiles, "the new tablespace's, configuration files and pg_control")
	assert.Less(t, copied.DedupBytes, copied.Bytes)

	c.begin(t, "20260105T030405")
	system := "7000000000000000002"
	c.info.SystemID = &system
	job, err = planFiles(c.server, c.cat, c.info, datadir.Below)
	require.NoError(t, err)
	assert.Equal(t, rsync.ReuseOff, job.Reuse, "another cluster's files are not reused")
}

func TestCopyFilesLimits(t *testing.T) {
	c := newFilesCase(t)
	c.server.BandwidthLimit, c.server.TablespaceBandwidthLimit = 1000, config.Rates{"out": 50}
	job, err := planFiles(c.server, c.cat, c.info, datadir.Below)
	require.NoError(t, err)
	assert.Equal(t, []int{50, 1000, 1000}, []int{job.Trees[0].RateKB, job.Trees[1].RateKB, job.Trees[2].RateKB})
}

func TestCopyFilesNamesWhatIsWrong(t *testing.T) {
	c := newFilesCase(t)
	require.NoError(t, os.Remove(filepath.Join(c.etc, "pg_hba.conf")))
	_, err := c.copy(t, 1)
	assert.ErrorContains(t, err, "pg_hba.conf")

	same := filepath.Join(c.root, "postgresql.conf")
	c.info.HBAFile = &same
	_, err = planFiles(c.server, c.cat, c.info, datadir.Below)
	assert.ErrorContains(t, err, "the same name")
}
