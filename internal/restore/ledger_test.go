package restore_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/holdfast-pg/holdfast/internal/basetar"
	"github.com/holdfast-pg/holdfast/internal/codec"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/restore"
	"github.com/holdfast-pg/holdfast/internal/restoreplan"
)

// requests are the names of the archives that were asked for.
type requests struct {
	mu    sync.Mutex
	names []string
}

func (r *requests) add(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.names = append(r.names, name)
}

func (r *requests) take() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	names := r.names
	r.names = nil
	slices.Sort(names)
	return names
}

// manyObjects is inStore with 20 more archives, of which the last two repeat members of others. Each is opened by open.
func manyObjects(t *testing.T, src restore.Source, open func(ctx context.Context, name, content string) (io.ReadCloser, error)) restore.Source {
	t.Helper()
	src = inStore(t, src)
	for oid, list := range src.Objects {
		for i, a := range list {
			content := contentOf(t, a)
			list[i] = basetar.Stored(a.Path, oid, a.Size, a.Compression(), func(ctx context.Context) (io.ReadCloser, error) { return open(ctx, a.Path, content) })
		}
	}
	for n := range 20 {
		name := fmt.Sprintf("data_%04d.tar", n+3)
		again := n
		if n >= 18 {
			again = n - 7
		}
		text := packedAs(t, "none", entry{name: fmt.Sprintf("empty %d/", n)},
			entry{name: fmt.Sprintf("base/2/%d", n), content: strings.Repeat(fmt.Sprint(n, " "), 100*n)},
			entry{name: fmt.Sprintf("base/2/%d", again), content: fmt.Sprintf("%5d", n)},
			entry{name: fmt.Sprintf("name \xff %d", n), content: "no UTF-8"},
			entry{name: fmt.Sprintf("link \xff %d", n), to: "/nowhere \xff"})
		src.Objects[0] = append(src.Objects[0], basetar.Stored(name, 0, int64(len(text)), codec.None, func(ctx context.Context) (io.ReadCloser, error) { return open(ctx, name, text) }))
	}
	return src
}

func contentOf(t *testing.T, a basetar.Archive) string {
	t.Helper()
	var all bytes.Buffer
	check(t, a.CopyTo(&all).Each(context.Background(), nil, func(basetar.Member) error { return nil }))
	return all.String()
}

func plain(content string) io.ReadCloser { return io.NopCloser(strings.NewReader(content)) }

// listing is what is below a directory, with contents and times.
func listing(t *testing.T, dir string) string {
	t.Helper()
	var out strings.Builder
	check(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(dir, path)
		fmt.Fprintf(&out, "%q %v", rel, info.Mode())
		switch {
		case info.Mode().IsRegular():
			content, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			if info.ModTime().Before(time.Unix(2e9, 0).AddDate(-30, 0, 0)) {
				fmt.Fprint(&out, " ", info.ModTime().UnixMicro()) // the others are made now
			}
			fmt.Fprintf(&out, " %q", content)
		case info.Mode()&fs.ModeSymlink != 0:
			to, err := os.Readlink(path)
			if err != nil {
				return err
			}
			fmt.Fprintf(&out, " to %q", filepath.Base(to))
		}
		out.WriteByte('\n')
		return nil
	}))
	return out.String()
}

// same compares listings.
func same(t *testing.T, got, want string) {
	t.Helper()
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	for _, line := range g {
		if !slices.Contains(w, line) {
			t.Errorf("there is %s", line)
		}
	}
	for _, line := range w {
		if !slices.Contains(g, line) {
			t.Errorf("there is no %s", line)
		}
	}
}

// whole is the listing of a restore that nothing disturbs, its result, and the plan of another.
func whole(t *testing.T, src restore.Source, arch restoreplan.Archive, root string) (want string, res *restore.Result, plan *restoreplan.Plan) {
	t.Helper()
	place := func(name string) *restoreplan.Plan {
		plan, err := restoreplan.Make(src.Info, restoreplan.Request{Dest: filepath.Join(root, name, "restored"), Tablespaces: map[string]string{src.Info.Tablespaces[0].Name: filepath.Join(root, name, "it's ts")}}, arch)
		check(t, err)
		return plan
	}
	plan = place("undisturbed")
	res, err := restore.Run(context.Background(), src, plan, restore.Options{Jobs: 4})
	check(t, err)
	return listing(t, filepath.Dir(plan.Dest)), res, place("resumed")
}

// TestAFailedRestoreGoesOn: what a store has delivered before it failed is not asked for again, and
// the result is that of a restore that nothing has disturbed.
func TestAFailedRestoreGoesOn(t *testing.T) {
	restore.SaveEvery(time.Millisecond)
	interrupted := errors.New("stopped")
	for name, c := range map[string]struct {
		err     error
		between func(t *testing.T, built string, src *restore.Source) // what happens before the next one
		again   []string                                              // archives beside the one that failed; nil for all
		goesOn  bool
	}{
		"the store is away":        {err: fault.New(fault.Connection, "read", "object", "no route to host"), again: []string{}, goesOn: true},
		"the credentials are old":  {err: fault.New(fault.Permission, "read", "object", "ExpiredToken"), again: []string{}, goesOn: true},
		"somebody has interrupted": {err: interrupted, again: []string{}, goesOn: true},
		"an object is damaged":     {err: fault.New(fault.Corrupt, "read", "object", "its checksum is another")},
		"the disk is full":         {err: fault.New(fault.Disk, "write", "base/2/1", "no space left on device")},
		"a file has gone": {err: interrupted, goesOn: true, again: []string{"data_0020.tar"}, between: func(t *testing.T, built string, _ *restore.Source) {
			check(t, os.Remove(filepath.Join(built, "base/2/17")))
		}},
		"a directory has gone": {err: interrupted, goesOn: true, again: []string{"data_0020.tar"}, between: func(t *testing.T, built string, _ *restore.Source) {
			check(t, os.Remove(filepath.Join(built, "empty 17")))
		}},
		"a file has changed": {err: interrupted, goesOn: true, again: []string{"data_0020.tar"}, between: func(t *testing.T, built string, _ *restore.Source) {
			check(t, os.WriteFile(filepath.Join(built, "base/2/17"), []byte("other"), 0o600))
		}},
		"a file is new, and a line half written": {err: interrupted, goesOn: true, again: []string{}, between: func(t *testing.T, built string, _ *restore.Source) {
			check(t, os.WriteFile(filepath.Join(built, "base/2/new"), nil, 0o600))
			check(t, os.Symlink("/etc", filepath.Join(built, "base/3")))
			check(t, os.MkdirAll(filepath.Join(built, "new/er"), 0o700))
			f, err := os.OpenFile(filepath.Join(built, restore.LedgerName), os.O_APPEND|os.O_WRONLY, 0)
			check(t, err)
			_, err = f.WriteString(`{"unit":"data_0022.tar","order":22,"files":"AA`)
			check(t, err)
			check(t, f.Close())
		}},
		"a ledger of zeros": {err: interrupted, between: func(t *testing.T, built string, _ *restore.Source) {
			check(t, os.WriteFile(filepath.Join(built, restore.LedgerName), make([]byte, 4096), 0o600))
		}},
		"a directory for a ledger": {err: interrupted, between: func(t *testing.T, built string, _ *restore.Source) {
			check(t, os.Remove(filepath.Join(built, restore.LedgerName)))
			check(t, os.Mkdir(filepath.Join(built, restore.LedgerName), 0o700))
		}},
		"a pipe for a ledger": {err: interrupted, between: func(t *testing.T, built string, _ *restore.Source) {
			check(t, os.Remove(filepath.Join(built, restore.LedgerName)))
			check(t, syscall.Mkfifo(filepath.Join(built, restore.LedgerName), 0o600))
		}},
		"another backup": {err: interrupted, between: func(_ *testing.T, _ string, src *restore.Source) {
			info := *src.Info
			other := "7000000000000000000"
			info.SystemID = &other
			src.Info = &info
		}},
		"another size of an archive": {err: interrupted, between: func(_ *testing.T, _ string, src *restore.Source) {
			src.Objects[0][5].Size++
		}},
	} {
		for _, inPlace := range []bool{false, true} {
			t.Run(fmt.Sprint(name, ", in place ", inPlace), func(t *testing.T) {
				src, arch, root := sample(t)
				var asked requests
				failing := ""
				ctx, cancel := context.WithCancel(context.Background())
				defer cancel()
				src = manyObjects(t, src, func(_ context.Context, name, content string) (io.ReadCloser, error) {
					asked.add(name)
					if name != failing {
						return plain(content), nil
					}
					time.Sleep(20 * time.Millisecond) // what came before is noted
					if errors.Is(c.err, interrupted) {
						cancel()
						return nil, ctx.Err()
					}
					return nil, c.err
				})
				want, undisturbed, plan := whole(t, src, arch, root)
				built := filepath.Join(filepath.Dir(plan.Dest), ".restored.holdfast-restore")
				if inPlace {
					built = plan.Dest
					write(t, filepath.Join(plan.Dest, restore.Marker), "")
				}
				all := asked.take()

				failing = "data_0021.tar"
				_, err := restore.Run(ctx, src, plan, restore.Options{Jobs: 1})
				first := asked.take()
				var unfinished *restore.Unfinished
				kept := errors.As(err, &unfinished)
				if err == nil || kept != (c.goesOn || errors.Is(c.err, interrupted)) {
					t.Fatalf("kept: %v, %v", kept, err)
				}
				if _, err := os.Lstat(built); !kept && err == nil && !inPlace {
					t.Errorf("%s is still there", built)
				}
				if kept && unfinished.Dirs[0] != built {
					t.Errorf("it says %s", unfinished.Dirs)
				}
				if c.between != nil {
					c.between(t, built, &src)
				}

				failing = ""
				resumed := 0
				res, err := restore.Run(context.Background(), src, plan, restore.Options{Jobs: 3, Resumed: func(_ string, done, of int) { resumed = done }, Progress: func(d, total int64) {
					if d > total {
						t.Errorf("%d of %d", d, total)
					}
				}})
				check(t, err)
				second := asked.take()
				expect := all
				if c.goesOn {
					expect = slices.DeleteFunc(slices.Clone(all), func(name string) bool {
						return slices.Contains(first, name) && name != "data_0021.tar" && !slices.Contains(c.again, name)
					})
				}
				if !slices.Equal(second, expect) || resumed != len(all)-len(expect) {
					t.Errorf("asked for %v, then for %v, not %v; %d said", first, second, expect, resumed)
				}
				if got := listing(t, filepath.Dir(plan.Dest)); name != "another backup" {
					same(t, got, want)
				}
				if res.Files != undisturbed.Files {
					t.Errorf("%d files, not %d", res.Files, undisturbed.Files)
				}
			})
		}
	}
}

// TestAKilledRestoreGoesOn kills restores at random moments, until one lives to its end. None asks
// for what an earlier one has noted, unless a later archive was about to replace some of that.
func TestAKilledRestoreGoesOn(t *testing.T) {
	const child = "HOLDFAST_TEST_RESTORE"
	restore.SaveEvery(time.Millisecond)
	src, arch, root := sample(t)
	var asked *os.File
	slow := func(_ context.Context, name, content string) (io.ReadCloser, error) {
		if asked == nil {
			return plain(content), nil
		}
		fmt.Fprintln(asked, name)
		return io.NopCloser(io.MultiReader(strings.NewReader(content[:len(content)/2]), pause{}, strings.NewReader(content[len(content)/2:]))), nil
	}
	if dir := os.Getenv(child); dir != "" {
		f, err := os.OpenFile(filepath.Join(dir, "asked"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		check(t, err)
		asked = f
		src.Info.Tablespaces[0].Location = "/it is somewhere"
		plan, err := restoreplan.Make(src.Info, restoreplan.Request{Dest: filepath.Join(dir, "restored"), Tablespaces: map[string]string{src.Info.Tablespaces[0].Name: filepath.Join(dir, "it's ts")}}, arch)
		check(t, err)
		_, err = restore.Run(context.Background(), manyObjects(t, src, slow), plan, restore.Options{Jobs: 3})
		check(t, err)
		return
	}
	src.Info.Tablespaces[0].Location = "/it is somewhere"
	src = manyObjects(t, src, slow)
	want, _, plan := whole(t, src, arch, root)
	dir := filepath.Dir(plan.Dest)
	check(t, os.MkdirAll(dir, 0o700))
	ledger := filepath.Join(dir, ".restored.holdfast-restore", restore.LedgerName)
	kills := 0
	for {
		c := exec.Command(os.Args[0], "-test.run=^TestAKilledRestoreGoesOn$")
		c.Env = append(os.Environ(), child+"="+dir)
		var out bytes.Buffer
		c.Stdout, c.Stderr = &out, &out
		noted := units(ledger)
		check(t, os.WriteFile(filepath.Join(dir, "asked"), nil, 0o600))
		check(t, c.Start())
		var err error
		ended := make(chan struct{})
		go func() {
			err = c.Wait()
			close(ended)
		}()
		killed := false
		for more := 1 + rand.IntN(5); !killed && waiting(ended, time.Millisecond); {
			if len(units(ledger)) >= len(noted)+more {
				waiting(ended, time.Duration(rand.IntN(10))*time.Millisecond)
				c.Process.Kill()
				killed = true
			}
		}
		<-ended
		text, rerr := os.ReadFile(filepath.Join(dir, "asked"))
		check(t, rerr)
		for name := range strings.FieldsSeq(string(text)) {
			if noted[name] && !slices.Contains([]string{"data.tar.gz", "data_0001.tar", "data_0014.tar", "data_0015.tar"}, name) {
				t.Errorf("%s was asked for again", name)
			}
		}
		if err == nil {
			break
		}
		if !killed {
			t.Fatalf("%v\n%s", err, out.String())
		}
		if _, err := os.Lstat(plan.Dest); err == nil {
			os.Remove(strings.TrimSuffix(ledger, "/"+restore.LedgerName) + ".journal")
			break // it was killed after the last step but that
		}
		kills++
	}
	check(t, os.Remove(filepath.Join(dir, "asked")))
	same(t, listing(t, dir), want)
	if kills < 2 {
		t.Errorf("%d kills: the test has tried nothing", kills)
	}
	t.Logf("%d kills", kills)
}

// waiting reports whether something has not ended after a while.
func waiting(ended <-chan struct{}, d time.Duration) bool {
	select {
	case <-ended:
		return false
	case <-time.After(d):
		return true
	}
}

// pause is a store that takes its time.
type pause struct{}

func (pause) Read([]byte) (int, error) {
	time.Sleep(5 * time.Millisecond)
	return 0, io.EOF
}

// units are the archives that a ledger has whole lines of.
func units(path string) map[string]bool {
	out := map[string]bool{}
	text, _ := os.ReadFile(path)
	for line := range strings.Lines(string(text)) {
		if name, ok := strings.CutPrefix(line, `{"unit":"`); ok && strings.HasSuffix(line, "\n") {
			name, _, _ = strings.Cut(name, `"`)
			out[name] = true
		}
	}
	return out
}

// TestWALThatIsMissingCostsNoArchives: what was unpacked waits until there is WAL, or a target that needs less.
func TestWALThatIsMissingCostsNoArchives(t *testing.T) {
	src, arch, root := sample(t)
	var asked requests
	src = manyObjects(t, src, func(_ context.Context, name, content string) (io.ReadCloser, error) {
		asked.add(name)
		return plain(content), nil
	})
	want, _, plan := whole(t, src, arch, root)
	asked.take()
	src.WAL = archive{fail: true}
	_, err := restore.Run(context.Background(), src, plan, restore.Options{Jobs: 2})
	if !fault.Is(err, fault.NotFound) || !errors.As(err, new(*restore.Unfinished)) || len(asked.take()) == 0 {
		t.Fatalf("got %v", err)
	}
	target, err := restoreplan.Make(src.Info, restoreplan.Request{Dest: plan.Dest, Target: restoreplan.Target{Immediate: true}, Tablespaces: map[string]string{src.Info.Tablespaces[0].Name: plan.Tablespaces[0].Dest}}, arch)
	check(t, err)
	if _, err := restore.Run(context.Background(), src, target, restore.Options{Jobs: 2}); !errors.As(err, new(*restore.Unfinished)) || target.WALDir == plan.WALDir {
		t.Fatalf("got %v", err)
	}
	src.WAL = archive{}
	_, err = restore.Run(context.Background(), src, plan, restore.Options{Jobs: 2})
	check(t, err)
	if names := asked.take(); len(names) > 0 {
		t.Errorf("asked for %v again", names)
	}
	same(t, listing(t, filepath.Dir(plan.Dest)), want)
}

// TestWhatIsLostTwice: an archive that was unpacked again counts as it is now, not as it was before.
func TestWhatIsLostTwice(t *testing.T) {
	restore.SaveEvery(time.Millisecond)
	src, arch, root := sample(t)
	failing := ""
	src = manyObjects(t, src, func(_ context.Context, name, content string) (io.ReadCloser, error) {
		if name == failing {
			return nil, fault.New(fault.Connection, "read", name, "no route to host")
		}
		return plain(content), nil
	})
	want, _, plan := whole(t, src, arch, root)
	failing = "data_0021.tar"
	for range 2 {
		if _, err := restore.Run(context.Background(), src, plan, restore.Options{}); !errors.As(err, new(*restore.Unfinished)) {
			t.Fatalf("got %v", err)
		}
		built := filepath.Join(filepath.Dir(plan.Dest), ".restored.holdfast-restore")
		text, err := os.ReadFile(filepath.Join(built, restore.LedgerName))
		check(t, err)
		if n := strings.Count(string(text), `"data_0020.tar"`); n != 1 {
			t.Errorf("it is noted %d times", n)
		}
		check(t, os.Remove(filepath.Join(built, "base/2/17")))
	}
	failing = ""
	_, err := restore.Run(context.Background(), src, plan, restore.Options{})
	check(t, err)
	same(t, listing(t, filepath.Dir(plan.Dest)), want)
}

// TestATablespaceInsideGoesOn: one that lies below the data directory is built with it.
func TestATablespaceInsideGoesOn(t *testing.T) {
	src, arch, root := sample(t)
	var asked requests
	failing := "16384.tar.lz4" // of the tablespace, the last that is begun
	src = manyObjects(t, src, func(_ context.Context, name, content string) (io.ReadCloser, error) {
		asked.add(name)
		if name == failing {
			return nil, fault.New(fault.Connection, "read", name, "no route to host")
		}
		return plain(content), nil
	})
	dest := filepath.Join(root, "restored")
	plan, err := restoreplan.Make(src.Info, restoreplan.Request{Dest: dest, Tablespaces: map[string]string{src.Info.Tablespaces[0].Name: filepath.Join(dest, "in side")}}, arch)
	check(t, err)
	if _, err := restore.Run(context.Background(), src, plan, restore.Options{}); !errors.As(err, new(*restore.Unfinished)) {
		t.Fatalf("got %v", err)
	}
	asked.take()
	failing = ""
	_, err = restore.Run(context.Background(), src, plan, restore.Options{})
	check(t, err)
	if names := asked.take(); !slices.Equal(names, []string{"16384.tar.lz4"}) {
		t.Errorf("asked for %v", names)
	}
	if got, err := os.ReadFile(filepath.Join(dest, "pg_tblspc/16384/PG_18_1/5/7")); string(got) != "row" {
		t.Errorf("%q, %v", got, err)
	}
}
