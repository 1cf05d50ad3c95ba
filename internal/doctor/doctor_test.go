package doctor

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/holdfast-pg/holdfast/internal/backup"
	"github.com/holdfast-pg/holdfast/internal/backupinfo"
	"github.com/holdfast-pg/holdfast/internal/catalog"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/fence"
	"github.com/holdfast-pg/holdfast/internal/keeper"
	"github.com/holdfast-pg/holdfast/internal/walarchive"
)

const id backup.ID = "20260301T000000"

// patient is a doctor of an empty server. run is what is known of every
// workflow run.
func patient(t *testing.T, run func() (bool, error)) *Doctor {
	t.Helper()
	dir := t.TempDir()
	sub := func(name string) string { return filepath.Join(dir, name) }
	l := catalog.Layout{Server: "main", BackupDir: dir, BaseDir: sub("base"), MetaDir: sub("meta"), WALDir: sub("wals"), XlogDBDir: sub("wals"),
		IncomingDir: sub("incoming"), StreamingDir: sub("streaming"), ErrorsDir: sub("errors"), LockDir: sub("locks")}
	require.NoError(t, l.EnsureDirs())
	return &Doctor{Catalog: catalog.Open(l), Archive: walarchive.Open(l, walarchive.Options{}), StateDir: sub("state"), CleanLocks: true,
		Running: func(keeper.Owner) (bool, error) { return run() }}
}

func (d *Doctor) has(t *testing.T, status backup.Status, runID string) {
	t.Helper()
	require.NoError(t, d.Catalog.Create(&backupinfo.Info{ID: id, ServerName: "main", Status: status}))
	require.NoError(t, d.Catalog.SaveExtra(id, &catalog.Extra{WorkflowID: "backup/main", RunID: runID}))
}

// TestWhoWrites: a program that writes is a leftover only when it is certain
// that nobody wants what it writes.
func TestWhoWrites(t *testing.T) {
	silent := errors.New("no answer")
	for name, c := range map[string]struct {
		status   backup.Status // "" for no record
		runID    string
		running  bool
		err      error
		locked   bool
		leftover bool
		doubt    string
	}{
		"its run goes on":                {backup.Started, "r", true, nil, true, false, ""},
		"its run has ended":              {backup.Started, "r", false, nil, false, true, ""},
		"an engine that knows nothing":   {backup.Started, "r", false, nil, true, false, "backup lock"},
		"no engine":                      {backup.Started, "r", false, silent, false, false, "no answer"},
		"somebody else's":                {backup.Started, "", false, nil, false, false, "not recorded"},
		"failed, and no engine":          {backup.Failed, "r", false, silent, false, true, ""},
		"done":                           {backup.Done, "r", true, nil, true, true, ""},
		"waits for WAL":                  {backup.WaitingForWALs, "r", true, nil, false, true, ""},
		"there is no record of a backup": {"", "", false, silent, false, true, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := patient(t, func() (bool, error) { return c.running, c.err })
			if c.status != "" {
				d.has(t, c.status, c.runID)
			}
			if c.locked {
				lock, err := d.Catalog.LockBackup()
				require.NoError(t, err)
				defer lock.Release()
			}
			child := exec.Command("sleep", "60")
			child.Env = []string{fence.MarkerEnv + "=" + d.Catalog.WorkDir(id) + "|token"}
			require.NoError(t, child.Start())
			ended := make(chan error, 1)
			go func() { ended <- child.Wait() }()
			defer func() { _ = child.Process.Kill() }()

			list, err := d.Examine(t.Context(), time.Now())
			require.NoError(t, err)
			list = only(list, Process)
			if !c.leftover && c.doubt == "" {
				assert.Empty(t, list)
				return
			}
			require.Len(t, list, 1)
			assert.Contains(t, list[0].Doubt, c.doubt)
			require.Equal(t, c.leftover, list[0].Removable())
			if !c.leftover {
				return
			}
			assert.NotEmpty(t, list[0].Proof)
			assert.Contains(t, list[0].Subject, fmt.Sprintf("%d (sleep)", child.Process.Pid))
			require.NoError(t, list[0].Remove(t.Context()))
			select {
			case <-ended:
			case <-time.After(time.Minute):
				t.Fatal("it was not ended")
			}
		})
	}
}

func only(list []Finding, kind Kind) []Finding {
	var out []Finding
	for _, f := range list {
		if f.Kind == kind {
			out = append(out, f)
		}
	}
	return out
}

// TestTheCaseIsProvenAnew: what somebody has come to own meanwhile stays.
func TestTheCaseIsProvenAnew(t *testing.T) {
	d := patient(t, func() (bool, error) { return false, nil })
	inside := filepath.Join(d.Catalog.DataDir(id), "base")
	require.NoError(t, os.MkdirAll(inside, 0o700))
	list, err := d.Examine(t.Context(), time.Now())
	require.NoError(t, err)
	require.Empty(t, list, "a backup may begin just now")
	list, err = d.Examine(t.Context(), time.Now().Add(quiet))
	require.NoError(t, err)
	list = only(list, Directory)
	require.Len(t, list, 1)

	lock, err := d.Catalog.LockBackup()
	require.NoError(t, err)
	require.Equal(t, fault.Refused, fault.KindOf(list[0].Remove(t.Context())), "somebody backs up")
	require.NoError(t, lock.Release())

	child := exec.Command("sleep", "60")
	child.Env = []string{fence.MarkerEnv + "=" + d.Catalog.WorkDir(id) + "|token"}
	require.NoError(t, child.Start())
	err = list[0].Remove(t.Context())
	require.NoError(t, child.Process.Kill())
	_ = child.Wait()
	require.ErrorContains(t, err, fmt.Sprintf("process %d writes there", child.Process.Pid))

	require.NoError(t, d.Catalog.MarkDeleting(id))
	require.Equal(t, fault.Refused, fault.KindOf(list[0].Remove(t.Context())), "it is being deleted now")
	require.DirExists(t, inside)
}

func TestLocks(t *testing.T) {
	d := patient(t, func() (bool, error) { return false, nil })
	d.has(t, backup.Done, "")
	now := time.Now()
	for name, age := range map[string]time.Duration{
		".main-xlogdb.lock": time.Hour, ".main-cron.lock": 8 * 24 * time.Hour, ".main-" + string(id) + ".lock": time.Hour,
		".main-20200101T000000.lock": time.Hour, ".main-20200101T000000-sync-backup.lock": time.Hour,
		".main-two-cron.lock": 30 * 24 * time.Hour, ".cron.lock": 30 * 24 * time.Hour, "notes": 30 * 24 * time.Hour,
	} {
		path := filepath.Join(d.Catalog.LockDir, name)
		require.NoError(t, os.WriteFile(path, []byte("1\n"), 0o600))
		require.NoError(t, os.Chtimes(path, now.Add(-age), now.Add(-age)))
	}
	list, err := d.Examine(t.Context(), now)
	require.NoError(t, err)
	var names []string
	for _, f := range only(list, Lock) {
		names = append(names, filepath.Base(f.Subject))
		require.NoError(t, f.Remove(t.Context()))
		require.NoFileExists(t, f.Subject)
	}
	assert.Equal(t, []string{".main-20200101T000000.lock", ".main-20200101T000000-sync-backup.lock", ".main-cron.lock"}, names)
	d.CleanLocks = false
	require.NoError(t, os.WriteFile(filepath.Join(d.Catalog.LockDir, ".main-20200101T000000.lock"), nil, 0o600))
	list, err = d.Examine(t.Context(), now)
	require.NoError(t, err)
	assert.Empty(t, list)
}

// TestADeletionThatIsNotFinishedIsNotCalledSo: the mark says, not the attempt.
func TestADeletionThatIsNotFinishedIsNotCalledSo(t *testing.T) {
	d := patient(t, func() (bool, error) { return false, nil })
	d.has(t, backup.Failed, "")
	require.NoError(t, d.Catalog.MarkDeleting(id))
	list, err := d.Examine(t.Context(), time.Now())
	require.NoError(t, err)
	require.Len(t, only(list, Deletion), 1)
	d.FinishDeletions = func(context.Context) error { return nil }
	require.Equal(t, fault.Refused, fault.KindOf(list[0].Remove(t.Context())))
	d.FinishDeletions = func(context.Context) error { return d.Catalog.Remove(id) }
	require.NoError(t, list[0].Remove(t.Context()))

	require.NoError(t, d.Catalog.MarkDeleting(id))
	lock, err := d.Catalog.LockBackup()
	require.NoError(t, err)
	defer lock.Release()
	list, err = d.Examine(t.Context(), time.Now())
	require.NoError(t, err)
	require.Empty(t, list, "somebody deletes")
}

// TestOneBlindEyeKeepsTheOtherOpen: what cannot be examined is an error, and the
// rest is found.
func TestOneBlindEyeKeepsTheOtherOpen(t *testing.T) {
	d := patient(t, func() (bool, error) { return false, nil })
	require.NoError(t, os.MkdirAll(d.Catalog.DataDir(id), 0o700))
	require.NoError(t, os.MkdirAll(keeper.Dir(d.StateDir), 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(keeper.Dir(d.StateDir), "x.session.json"), []byte("{"), 0o600))
	list, err := d.Examine(t.Context(), time.Now().Add(quiet))
	require.Error(t, err)
	require.Len(t, only(list, Directory), 1)
}

func TestPorts(t *testing.T) {
	l, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	c, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", l.Addr().String())
	require.NoError(t, err)
	defer c.Close()
	held, err := portHeld(c.LocalAddr().(*net.TCPAddr).Port)
	require.NoError(t, err)
	assert.True(t, held)

	const table = `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1538 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1
   1: 0100007F:9C40 0100007F:1538 01 00000000:00000000 00:00000000 00000000     0        0 4712 1
   2: 0100007F:9C41 0100007F:1538 04 00000000:00000000 00:00000000 00000000     0        0 0 1
`
	for port, want := range map[int]bool{0x1538: false, 0x9C40: true, 0x9C41: false, 0x9C42: false} {
		held, err := listsPort(bufio.NewScanner(strings.NewReader(table)), port)
		require.NoError(t, err)
		assert.Equal(t, want, held, "%x", port)
	}
}
