//go:build integration

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/holdfast-pg/holdfast/internal/objstore/storetest"
)

// storeCheck is a holdfast that has nothing but a store.
type storeCheck struct {
	t   *testing.T
	env map[string]string
}

func (c storeCheck) start(args ...string) (*exec.Cmd, *bytes.Buffer) {
	c.t.Helper()
	var out bytes.Buffer
	cmd := exec.Command(holdfast(c.t), append([]string{"check"}, args...)...)
	cmd.Env = []string{"PATH=/usr/bin:/bin", "HOME=/nonexistent"}
	for name, value := range c.env {
		if value != "" {
			cmd.Env = append(cmd.Env, name+"="+value)
		}
	}
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	return cmd, &out
}

func (c storeCheck) run(args ...string) (string, int) {
	c.t.Helper()
	cmd, out := c.start(args...)
	timeout := time.AfterFunc(time.Minute, func() { _ = cmd.Process.Kill() })
	defer timeout.Stop()
	if err := cmd.Wait(); err != nil && !errors.As(err, new(*exec.ExitError)) {
		c.t.Fatal(err)
	}
	return out.String(), cmd.ProcessState.ExitCode()
}

// files are those below a directory, without what versitygw keeps for itself.
func files(t testing.TB, dir string) (names []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			names = append(names, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

var storeItems = []string{"list", "put", "clock", "read", "put if absent", "checksums", "names", "large objects", "multipart uploads",
	"unfinished uploads", "server-side copy", "server-side copy of ranges", "locks", "delete"}

func TestCheckStore(t *testing.T) {
	g := storetest.StartGateway(t, "bucket")
	dir := t.TempDir()
	c := storeCheck{t, g.Environment()}
	conf := filepath.Join(t.TempDir(), "holdfast.conf")
	me := "root"
	if os.Getuid() != 0 {
		me = os.Getenv("USER")
	}
	text := "[barman]\nbarman_home = " + dir + "\nbarman_user = " + me + "\n[main]\nactive = off\naws_region = us-east-1\nholdfast_s3_addressing_style = path\nholdfast_endpoint_url = " + g.URL + "\n"
	if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"--store", "file://" + dir},
		{"--store", "s3://bucket", "--endpoint-url", g.URL},
		{"--store", "s3://bucket/some where/x", "--endpoint-url", g.URL, "--addressing-style", "path"},
		{"-c", conf, "main", "--store", "s3://bucket/x"},
	} {
		out, code := c.run(args...)
		lines := strings.Split(strings.TrimSpace(out), "\n")
		if code != 0 || !strings.HasPrefix(out, "Store "+args[indexOf(args, "--store")+1]+":\n") || len(lines) != 1+len(storeItems) {
			t.Errorf("%v: exit %d\n%s", args, code, out)
			continue
		}
		for i, name := range storeItems {
			if !strings.HasPrefix(lines[i+1], "\t"+name+": OK") {
				t.Errorf("%v: %q is not %s: OK", args, lines[i+1], name)
			}
		}
		out, code = c.run(append([]string{"-f", "json"}, args...)...)
		var all map[string]map[string]struct{ Status, Hint string }
		if err := json.Unmarshal([]byte(out), &all); err != nil || code != 0 || len(all) != 1 {
			t.Fatalf("%v: exit %d, %v\n%s", args, code, err, out)
		}
		for _, items := range all {
			if len(items) != len(storeItems) || items["put_if_absent"].Status != "OK" || !strings.Contains(items["clock"].Hint, "clock") || items["locks"].Hint == "" {
				t.Errorf("%v: %v", args, items)
			}
		}
	}
	if left := append(files(t, dir), files(t, g.Data("bucket"))...); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
}

// TestCheckStoreOfOthers: the same items for Google's and Azure's stores, and nothing is left there.
func TestCheckStoreOfOthers(t *testing.T) {
	g, a := storetest.StartGoogle(t, "bucket"), storetest.StartAzure(t, "container")
	for _, c := range []struct {
		url  string
		env  map[string]string
		less string // the item that the store does not have
	}{
		{"gs://bucket/some where/x", g.Environment(), "server-side copy of ranges"},
		{a.Address + "/container/some where/x", a.Environment(), ""},
	} {
		check := storeCheck{t, c.env}
		items := slices.DeleteFunc(slices.Clone(storeItems), func(i string) bool { return i == c.less })
		for range 2 { // the second one would find what the first one has left
			out, code := check.run("--store", c.url)
			lines := strings.Split(strings.TrimSpace(out), "\n")
			if code != 0 || lines[0] != "Store "+c.url+":" || len(lines) != 1+len(items) {
				t.Errorf("exit %d\n%s", code, out)
				break
			}
			for i, name := range items {
				if !strings.HasPrefix(lines[i+1], "\t"+name+": OK") {
					t.Errorf("%q is not %s: OK", lines[i+1], name)
				}
			}
			if !strings.Contains(out, "checksums: OK (what is sent is verified by the store, what is read by Holdfast)") {
				t.Errorf("checksums:\n%s", out)
			}
		}
	}
	for url, env := range map[string]map[string]string{"gs://nobody/x": g.Environment(), a.Address + "/nobody/x": a.Environment()} {
		if out, code := (storeCheck{t, env}).run("--store", url); code != 1 || !strings.Contains(out, "list: FAILED (list nobody: it does not exist; create it") {
			t.Errorf("%s: exit %d\n%s", url, code, out)
		}
	}
	if out, code := (storeCheck{t, nil}).run("--store", a.Address+"/container"); code != 2 || !strings.Contains(out, "needs a connection string") {
		t.Errorf("exit %d\n%s", code, out)
	}
}

func indexOf(list []string, what string) int {
	for i, s := range list {
		if s == what {
			return i
		}
	}
	return -1
}

// TestCheckStoreMistakes: one line of cause, the cure, and the documented exit code.
func TestCheckStoreMistakes(t *testing.T) {
	g := storetest.StartGateway(t, "bucket")
	dir := t.TempDir()
	readOnly := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(readOnly, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s3 := func(more ...string) []string {
		return append([]string{"--store", "s3://bucket", "--endpoint-url", g.URL}, more...)
	}
	for _, m := range []struct {
		name string
		env  map[string]string
		args []string
		code int
		want []string
	}{
		{"no URL", nil, []string{"--store", ""}, 2, []string{"--store has no URL", "HINT"}},
		{"unknown kind", nil, []string{"--store", "ftp://x/y"}, 2, []string{"not known", "s3://BUCKET/PATH"}},
		{"a secret in the URL", nil, []string{"--store", "s3://me:s3cret@bucket"}, 2, []string{"give the bucket alone"}},
		{"two servers", nil, []string{"--store", "s3://x", "a", "b"}, 2, []string{"at most one SERVER"}},
		{"nagios", nil, []string{"--store", "s3://x", "--nagios"}, 2, []string{"--nagios", "leave"}},
		{"no store", nil, []string{"main", "--endpoint-url", "http://x"}, 2, []string{"--endpoint-url belongs to --store"}},
		{"no endpoint", nil, []string{"--store", "s3://x", "--endpoint-url", "localhost:9000"}, 2, []string{"http://HOST:PORT"}},
		{"secret in the endpoint", nil, []string{"--store", "s3://x", "--endpoint-url", "http://a:s3cret@h"}, 2, []string{"http://HOST:PORT"}},
		{"addressing style", nil, s3("--addressing-style", "paht"), 2, []string{"auto, path or virtual"}},
		{"no directory", nil, []string{"--store", "file://" + dir + "/absent"}, 2, []string{"does not exist", "create it"}},
		{"no directory but a file", nil, []string{"--store", "file://" + readOnly}, 2, []string{"not a directory"}},
		{"no bucket", nil, []string{"--store", "s3://nobody", "--endpoint-url", g.URL}, 1, []string{"list: FAILED (list nobody: it does not exist; create it"}},
		{"wrong secret", map[string]string{"AWS_SECRET_ACCESS_KEY": "x"}, s3(), 1, []string{"list: FAILED", "refuses the credentials", "AWS_SECRET_ACCESS_KEY"}},
		{"no credentials", map[string]string{"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}, s3(), 1, []string{"list: FAILED", "credentials for S3", "aws_profile"}},
		{"no such profile", map[string]string{"AWS_PROFILE": "nobody"}, s3(), 2, []string{"AWS configuration", "aws_profile"}},
		{"wrong region", map[string]string{"AWS_REGION": "eu-north-1"}, s3(), 1, []string{"list: FAILED", "eu-north-1", "aws_region"}},
		{"wrong port", nil, []string{"--store", "s3://bucket", "--endpoint-url", "http://127.0.0.1:1"}, 1, []string{"list: FAILED (give up after 10s", "connection refused", "its port is right"}},
		{"not TLS", nil, []string{"--store", "s3://bucket", "--endpoint-url", strings.Replace(g.URL, "http", "https", 1)}, 1, []string{"does not speak TLS"}},
	} {
		t.Run(m.name, func(t *testing.T) {
			c := storeCheck{t, g.Environment()}
			for name, value := range m.env {
				c.env[name] = value
			}
			out, code := c.run(m.args...)
			if code != m.code || len(strings.Split(strings.TrimSpace(out), "\n")) > 2 {
				t.Errorf("exit %d, not %d:\n%s", code, m.code, out)
			}
			for _, want := range m.want {
				if !strings.Contains(out, want) {
					t.Errorf("%q is missing in:\n%s", want, out)
				}
			}
			if strings.Contains(out, "s3cret") {
				t.Errorf("a secret was printed:\n%s", out)
			}
		})
	}
}

// TestCheckStoreInterrupted: what was stored until then is removed.
func TestCheckStoreInterrupted(t *testing.T) {
	g := storetest.StartGateway(t, "bucket")
	arrived, interrupted := make(chan bool), make(chan bool)
	var once sync.Once
	proxy := bent(t, g.URL, func(w http.ResponseWriter, r *http.Request, forward http.Handler) {
		if r.URL.Query().Get("partNumber") == "2" {
			once.Do(func() { close(arrived); <-interrupted })
		}
		forward.ServeHTTP(w, r)
	})
	cmd, out := storeCheck{t, g.Environment()}.start("--store", "s3://bucket", "--endpoint-url", proxy)
	select {
	case <-arrived:
	case <-time.After(30 * time.Second):
		t.Error("no second part came")
	}
	if len(files(t, g.Data("bucket"))) == 0 {
		t.Error("nothing was stored before the interruption")
	}
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Error(err)
	}
	close(interrupted)
	hung := time.AfterFunc(30*time.Second, func() { _ = cmd.Process.Signal(syscall.SIGQUIT) })
	defer hung.Stop()
	_ = cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != 130 || !strings.Contains(out.String(), "nothing of it is left") {
		t.Errorf("exit %d\n%s", code, out)
	}
	if left := files(t, g.Data("bucket")); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
}
