package rsync

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/holdfast-pg/holdfast/internal/command"
	"github.com/holdfast-pg/holdfast/internal/datadir"
	"github.com/holdfast-pg/holdfast/internal/fence"
)

// jobEnv makes the test binary a process that copies, so that it can be killed.
const jobEnv = "HOLDFAST_TEST_COPY"

func TestMain(m *testing.M) {
	if text := os.Getenv(jobEnv); text != "" {
		os.Exit(copyProcess(text))
	}
	os.Exit(m.Run())
}

// task is what a copying process is told.
type task struct {
	Root     string
	Attempt  int
	Activity int
	Reuse    Reuse
	Horizon  time.Time
	RateKB   int
}

func copyProcess(text string) int {
	var t task
	if err := json.Unmarshal([]byte(text), &t); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	job, err := newJob(context.Background(), t)
	if err == nil {
		var res Result
		if res, err = Copy(context.Background(), job); err == nil {
			err = json.NewEncoder(os.Stdout).Encode(res)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

const testSystem = 7000000000000000001

// The tree of a test: the cluster, its tablespace, the backup and the one before.
func clusterDir(root string) string    { return filepath.Join(root, "pgdata") }
func tablespaceDir(root string) string { return filepath.Join(root, "space") }
func backupDir(root string) string     { return filepath.Join(root, "base", "20260102T000000") }
func previousDir(root string) string   { return filepath.Join(root, "base", "20260101T000000") }

// newJob is a copy of the cluster below root.
func newJob(ctx context.Context, t task) (Job, error) {
	work := filepath.Join(backupDir(t.Root), "holdfast")
	f, err := fence.Take(ctx, work, fence.Claim{Attempt: t.Attempt, Activity: t.Activity, Token: fmt.Sprintf("%d.%d", t.Attempt, t.Activity)})
	if err != nil {
		return Job{}, err
	}
	program, err := command.Find("rsync", "")
	if err != nil {
		return Job{}, err
	}
	data := filepath.Join(backupDir(t.Root), "data")
	j := Job{Program: program, Fence: f, WorkDir: work, Journal: filepath.Join(work, "journal"), Manifest: filepath.Join(work, "backup_manifest"),
		SystemID: testSystem, Attempt: t.Attempt, Host: "here", Boot: "boot", Reuse: t.Reuse, Horizon: t.Horizon, Jobs: 2, StartBatch: 10, StartPeriod: time.Second,
		Trees: []Tree{
			{Name: "space", Source: tablespaceDir(t.Root), Dest: filepath.Join(backupDir(t.Root), "16500"), Path: "pg_tblspc/16500", Only: "PG_15_*", Exclude: datadir.Exclusions},
			{Name: "pgdata", Source: clusterDir(t.Root), Dest: data, Exclude: append(append([]string{}, datadir.Exclusions...), datadir.DataExclusions...)},
		},
		Control:  Single{Source: filepath.Join(clusterDir(t.Root), "global", "pg_control"), Dest: filepath.Join(data, "global", "pg_control"), Path: "global/pg_control"},
		Progress: &Progress{},
	}
	j.Trees[1].RateKB = t.RateKB
	if t.Reuse != "" && t.Reuse != ReuseOff {
		j.Trees[0].Previous, j.Trees[1].Previous = filepath.Join(previousDir(t.Root), "16500"), filepath.Join(previousDir(t.Root), "data")
		j.PreviousManifest = filepath.Join(previousDir(t.Root), "holdfast", "backup_manifest")
	}
	return j, nil
}

// start runs a copying process.
func start(t testing.TB, what task, attr func(*exec.Cmd)) *exec.Cmd {
	t.Helper()
	text, err := json.Marshal(what)
	require.NoError(t, err)
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), jobEnv+"="+string(text))
	if attr != nil {
		attr(cmd)
	}
	require.NoError(t, cmd.Start())
	return cmd
}

// old is when the files of a test were written, unless it says otherwise.
var old = time.Now().Add(-time.Hour).Truncate(time.Second).Add(123456789)

// put writes a file that was changed at a time.
func put(t testing.TB, path, content string, at time.Time) {
	t.Helper()
	require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o700))
	require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
	require.NoError(t, os.Chtimes(path, at, at))
}

// control is a pg_control of PostgreSQL 15.
func control(system uint64) []byte {
	b := make([]byte, 8192)
	binary.LittleEndian.PutUint64(b, system)
	binary.LittleEndian.PutUint32(b[8:], 1300)
	binary.LittleEndian.PutUint32(b[288:], crc32.Checksum(b[:288], crc32.MakeTable(crc32.Castagnoli)))
	return b
}

// cluster makes a small cluster below a new root.
func cluster(t testing.TB) string {
	t.Helper()
	root := t.TempDir()
	d := clusterDir(root)
	for _, dir := range []string{"pg_wal/archive_status", "pg_tblspc", "pg_notify", "pg_twophase", "base/1", "log"} {
		require.NoError(t, os.MkdirAll(filepath.Join(d, dir), 0o700))
	}
	require.NoError(t, os.Symlink(tablespaceDir(root), filepath.Join(d, "pg_tblspc", "16500")))
	put(t, filepath.Join(d, "global/pg_control"), string(control(testSystem)), old)
	put(t, filepath.Join(d, "PG_VERSION"), "15\n", old)
	put(t, filepath.Join(d, "base/1/empty"), "", old)
	for i := range 40 {
		put(t, filepath.Join(d, "base/1", fmt.Sprint(16384+i)), fmt.Sprintf("relation %d", i), old)
		put(t, filepath.Join(tablespaceDir(root), "PG_15_202209061/5", fmt.Sprint(20000+i)), fmt.Sprintf("elsewhere %d", i), old)
	}
	put(t, filepath.Join(tablespaceDir(root), "PG_14_202107181/5/20000"), "old major", old)
	put(t, filepath.Join(tablespaceDir(root), "stray"), "not PostgreSQL's", old)
	return root
}

// copyNow copies in this process.
func copyNow(t testing.TB, what task, change ...func(*Job)) (Result, error) {
	t.Helper()
	job, err := newJob(t.Context(), what)
	require.NoError(t, err)
	for _, f := range change {
		f(&job)
	}
	return Copy(t.Context(), job)
}
