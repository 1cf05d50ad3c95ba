package hook

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/holdfast-pg/holdfast/internal/backup"
	"github.com/holdfast-pg/holdfast/internal/backupinfo"
	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/internal/fault"
)

// bench are hooks whose pauses are counted instead of waited for.
type bench struct {
	*Hooks
	log    bytes.Buffer
	pauses []time.Duration
	dir    string
}

func newBench(t *testing.T, s config.Server) *bench {
	t.Helper()
	b := &bench{dir: t.TempDir()}
	s.Name, s.ConfigFile = "main", "/etc/barman.conf"
	if s.HoldfastHookTimeout == 0 {
		s.HoldfastHookTimeout = time.Minute
	}
	b.Hooks = Of(&s)
	b.Hooks.log = slog.New(slog.NewTextHandler(&b.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	b.Hooks.sleep = func(ctx context.Context, d time.Duration) error {
		b.pauses = append(b.pauses, d)
		return ctx.Err()
	}
	return b
}

func TestExitCodesOfRetryScripts(t *testing.T) {
	// Each run appends to a file and ends with the code of its turn.
	script := func(codes ...int) (string, string) {
		count := filepath.Join(t.TempDir(), "count")
		text := fmt.Sprintf("echo x >> %s; case $(wc -l < %s) in", count, count)
		for i, code := range codes {
			text += fmt.Sprintf(" %d) exit %d;;", i+1, code)
		}
		return text + " *) exit 99;; esac", count
	}
	for _, tc := range []struct {
		name   string
		codes  []int
		runs   int
		pauses []time.Duration
		stops  bool
	}{
		{"success", []int{0}, 1, nil, false},
		{"abort and go on", []int{62}, 1, nil, false},
		{"abort and stop", []int{63}, 1, nil, true},
		{"retried", []int{1, 2, 0}, 3, []time.Duration{retryGap, retryGap}, false},
		{"a nap after five retries", []int{1, 1, 1, 1, 1, 1, 1, 0}, 8, []time.Duration{retryGap, retryGap, retryGap, retryGap, retryGap, nap, retryGap}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			text, count := script(tc.codes...)
			b := newBench(t, config.Server{HookOptions: config.HookOptions{PreBackupRetryScript: text}})
			err := b.Before(t.Context(), Event{Name: Backup})
			assert.Equal(t, tc.stops, fault.Is(err, fault.Refused), "%v", err)
			if tc.stops {
				assert.ErrorContains(t, err, "pre_backup_retry_script")
			} else {
				assert.NoError(t, err)
			}
			runs, err := os.ReadFile(count)
			require.NoError(t, err)
			assert.Equal(t, tc.runs, bytes.Count(runs, []byte("\n")))
			assert.Equal(t, tc.pauses, b.pauses)
		})
	}
}

func TestAfterTheFactNothingStops(t *testing.T) {
	b := newBench(t, config.Server{HookOptions: config.HookOptions{PostDeleteRetryScript: "exit 63", PostDeleteScript: "echo last words; exit 5"}})
	assert.NoError(t, b.After(t.Context(), Event{Name: Delete}))
	assert.Contains(t, b.log.String(), "changes nothing")
	assert.Contains(t, b.log.String(), "last words")
	assert.Contains(t, b.log.String(), "exit code 5")
	assert.NoError(t, b.Before(t.Context(), Event{Name: Delete}))
}

func TestOrderAndVariables(t *testing.T) {
	out := filepath.Join(t.TempDir(), "out")
	script := "{ echo; env | grep '^BARMAN_' | sort; echo PATH=$PATH; } >> " + out
	b := newBench(t, config.Server{GeneralOptions: config.GeneralOptions{PathPrefix: "/opt/tools"}, HookOptions: config.HookOptions{
		PreBackupScript: script + "; exit 1", PreBackupRetryScript: script, PostBackupScript: script, PostBackupRetryScript: script}})
	failed := "disk full"
	id := backup.ID("20261124T100000")
	e, err := OfBackup(Backup, neighbours{}, &backupinfo.Info{ID: id, Status: backup.Failed, Error: &failed})
	require.NoError(t, err)
	require.NoError(t, b.Before(t.Context(), e))
	require.NoError(t, b.After(t.Context(), e))
	text, err := os.ReadFile(out)
	require.NoError(t, err)
	runs := strings.Split(strings.TrimPrefix(string(text), "\n"), "\n\n")
	require.Len(t, runs, 4)
	order := []string{"BARMAN_PHASE=pre BARMAN_RETRY=0", "BARMAN_PHASE=pre BARMAN_RETRY=1", "BARMAN_PHASE=post BARMAN_RETRY=1", "BARMAN_PHASE=post BARMAN_RETRY=0"}
	for i, run := range runs {
		for _, want := range strings.Fields(order[i] + " BARMAN_SERVER=main BARMAN_CONFIGURATION=/etc/barman.conf BARMAN_STATUS=FAILED BARMAN_BACKUP_ID=" + string(id) +
			" BARMAN_PREVIOUS_ID=20261123T100000 BARMAN_NEXT_ID= BARMAN_BACKUP_DIR=/base/" + string(id) + " BARMAN_BACKUP_INFO_PATH=/meta/" + string(id)) {
			assert.Contains(t, strings.Split(run, "\n"), want)
		}
		assert.Contains(t, run, "BARMAN_ERROR=disk full\n")
		assert.Contains(t, run, "BARMAN_VERSION=")
		assert.Contains(t, run, "\nPATH=/opt/tools:")
		hook := "BARMAN_HOOK=backup_script"
		if strings.Contains(run, "BARMAN_RETRY=1") {
			hook = "BARMAN_HOOK=backup_retry_script"
		}
		assert.Contains(t, strings.Split(run, "\n"), hook)
	}
}

type neighbours struct{}

func (neighbours) BackupDirOf(id backup.ID) string { return "/base/" + string(id) }
func (neighbours) InfoPath(id backup.ID) string    { return "/meta/" + string(id) }
func (neighbours) Previous(backup.ID) (*backupinfo.Info, error) {
	return &backupinfo.Info{ID: "20261123T100000"}, nil
}
func (neighbours) Next(backup.ID) (*backupinfo.Info, error) { return nil, nil }

// A script that hangs is killed with its children, and counts as failed.
func TestAScriptThatHangs(t *testing.T) {
	alive := filepath.Join(t.TempDir(), "alive")
	b := newBench(t, config.Server{HoldfastOptions: config.HoldfastOptions{}, HookOptions: config.HookOptions{
		PreBackupScript: "(sleep 2; touch " + alive + ") & wait", HoldfastHookTimeout: 200 * time.Millisecond}})
	assert.NoError(t, b.Before(t.Context(), Event{Name: Backup}))
	assert.Contains(t, b.log.String(), "holdfast_hook_timeout")
	time.Sleep(2200 * time.Millisecond)
	assert.NoFileExists(t, alive)
}

func TestACancelledRunEnds(t *testing.T) {
	b := newBench(t, config.Server{HookOptions: config.HookOptions{PreBackupRetryScript: "exit 1"}})
	ctx, cancel := context.WithCancel(t.Context())
	n := 0
	b.sleep = func(ctx context.Context, _ time.Duration) error {
		if n++; n == 3 {
			cancel()
		}
		return ctx.Err()
	}
	assert.Error(t, b.Before(ctx, Event{Name: Backup}))
	assert.Equal(t, 3, n)
}

func TestOutputIsLoggedLineByLine(t *testing.T) {
	b := newBench(t, config.Server{HookOptions: config.HookOptions{PreBackupScript: `printf 'one\ntwo'; head -c 10000 /dev/zero | tr '\0' x; echo; echo to stderr >&2; exit 4`}})
	require.NoError(t, b.Before(t.Context(), Event{Name: Backup}))
	said := slices.DeleteFunc(strings.Split(b.log.String(), "\n"), func(l string) bool { return !strings.Contains(l, "a script says") })
	assert.Contains(t, said[0], "output=one")
	for _, line := range said {
		assert.LessOrEqual(t, len(line), longest+200)
	}
	assert.Contains(t, b.log.String(), "to stderr")
}

func TestNoScriptsAreNil(t *testing.T) {
	none := Of(&config.Server{})
	assert.Nil(t, none)
	assert.False(t, none.Has(Backup))
	assert.NoError(t, none.Before(t.Context(), Event{Name: Backup}))
	assert.NoError(t, none.After(t.Context(), Event{Name: Backup}))
}
