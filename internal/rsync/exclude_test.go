package rsync

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/holdfast-pg/holdfast/internal/datadir"
)

// odd has, for every exclusion, paths that it means and paths that it almost
// means.
var odd = []string{
	"PG_VERSION", "base/1/16384", "base/1/16384.1", "base/1/16384_fsm", "base/1/pg_internal.init", "base/1/pg_internal.init.4711", "global/pg_internal.init",
	"base/pgsql_tmp/pgsql_tmp123.0", "base/pgsql_tmp/x", "base/1/pgsql_tmpfoo", "base/1/xpgsql_tmp", "pgsql_tmp1",
	"postgresql.auto.conf", "postgresql.auto.conf.tmp", "base/postgresql.auto.conf.tmp", "current_logfiles", "current_logfiles.tmp",
	"postmaster.pid", "postmaster.opts", "postmaster.pid.old", "base/1/postmaster.pid", "recovery.conf", "recovery.signal", "standby.signal", "backup_label.old", "tablespace_map",
	"base/1/t3_16384", "base/1/t12_16384_fsm", "base/1/t3_16384.1", "base/1/t3x16384", "base/1/tx_16384", "base/1/ta3_1", "base/x1/t3_16384", "base/1a/t3_1", "t3_16384", "1/t3_16384", "base/1/t/3_1",
	"pg_dynshmem/mmap.1", "pg_notify/0000", "pg_replslot/s/state", "pg_serial/0000", "pg_stat_tmp/global.stat", "pg_snapshots/1", "pg_subtrans/0000", "pg_subtrans2/0000",
	"base/pg_notify/0000", "pg_stat/pg_stat_tmp/x", "pg_xact/0000", "pg_multixact/offsets/0000",
	"log/postgresql.log", "log/sub/x", "base/log/x", "pg_log/x", "pg_wal/000000010000000000000001", "pg_wal/archive_status/x.done", "base/pg_wal/x", "pg_xlog/x",
	"global/pg_control", "base/global/pg_control", "global/pg_control.old", "pg_tblspc/17000/PG_15_202209061/1/2",
	"in side/PG_15_1/1", "in sider/file", "space[1]*/PG_15_1/1", "space1/x", "postgresql.conf", "base/postgresql.conf",
	" spaced ", "quo'te\"", "new\nline", "-dash", "bad\xff", "base/1/t3_\xff", "base/1/t3_1\n",
}

// listed is what we list of a directory.
func listed(t *testing.T, dir string, tree Tree) []string {
	t.Helper()
	f, err := datadir.NewFilter(tree.Only, tree.Exclude)
	require.NoError(t, err)
	var out []string
	var walk func(rel string)
	walk = func(rel string) {
		require.NoError(t, datadir.EachName(filepath.Join(dir, rel), func(names []string) error {
			for _, name := range names {
				rel := datadir.Join(rel, name)
				if f.Excluded(rel) {
					continue
				}
				out = append(out, rel)
				if st, err := os.Stat(filepath.Join(dir, rel)); err == nil && st.IsDir() {
					walk(rel)
				}
			}
			return nil
		}))
	}
	walk("")
	slices.Sort(out)
	return out
}

// byRsync is what rsync copies with the same rules.
func byRsync(t *testing.T, dir string, rules ...string) []string {
	t.Helper()
	dest := t.TempDir()
	out, err := exec.CommandContext(t.Context(), "rsync", append(append([]string{"-r"}, rules...), "--", dir+"/", dest+"/")...).CombinedOutput()
	require.NoError(t, err, string(out))
	var all []string
	for rel := range content(t, dest) {
		if rel != "." {
			all = append(all, rel)
		}
	}
	slices.Sort(all)
	return all
}

func TestExclusionsMeanWhatTheyMeanToRsync(t *testing.T) {
	dir := t.TempDir()
	for _, rel := range odd {
		put(t, filepath.Join(dir, rel), rel, old)
	}
	for _, empty := range []string{"pg_twophase", "base/9", "log/empty"} {
		require.NoError(t, os.MkdirAll(filepath.Join(dir, empty), 0o700))
	}
	lists := map[string][]string{"all": slices.Concat(datadir.DataExclusions, datadir.Exclusions, []string{datadir.Literal("in side"), datadir.Literal("space[1]*"), datadir.Literal("postgresql.conf")})}
	if !testing.Short() {
		for _, p := range lists["all"] {
			lists[p] = []string{p}
		}
	}
	everything := listed(t, dir, Tree{})
	for name, list := range lists {
		t.Run(strings.ReplaceAll(name, "/", ":"), func(t *testing.T) {
			var rules []string
			for _, p := range list {
				rules = append(rules, "--exclude="+p)
			}
			ours := listed(t, dir, Tree{Exclude: list})
			assert.Equal(t, byRsync(t, dir, rules...), ours)
			assert.Less(t, len(ours), len(everything), "the list excludes something")
		})
	}
}

func TestTablespaceTakesItsMajorVersionOnly(t *testing.T) {
	dir := t.TempDir()
	for _, rel := range []string{"PG_15_202209061/5/1", "PG_15_202209061/5/t2_1", "PG_15_202209061/pgsql_tmp/x", "PG_14_1/5/1", "PG_150_1/5/1", "xPG_15_1/1", "stray", "PG_15", "sub/PG_15_1/1"} {
		put(t, filepath.Join(dir, rel), rel, old)
	}
	rules := []string{"--include=/PG_15_*", "--exclude=/*"}
	for _, p := range datadir.Exclusions {
		rules = append(rules, "--exclude="+p)
	}
	ours := listed(t, dir, Tree{Only: "PG_15_*", Exclude: datadir.Exclusions})
	// Rsync's first rule that matches counts, so it is asked in two steps.
	assert.Equal(t, []string{"PG_15_202209061", "PG_15_202209061/5", "PG_15_202209061/5/1"}, ours)
	assert.Equal(t, byRsync(t, dir, rules...), ours)
}

func TestPatternsThatAreNotUnderstood(t *testing.T) {
	for _, p := range []string{"", "/", "a[", "a/**/b", "**", "dir/", "/a**"} {
		_, err := datadir.ParsePattern(p)
		assert.Error(t, err, p)
	}
	_, err := Copy(context.Background(), Job{Trees: []Tree{{Name: "pgdata", Exclude: []string{"a["}}}})
	assert.ErrorContains(t, err, "a[")
}
