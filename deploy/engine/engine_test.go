package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"
)

// asEngine makes the test binary run as the engine itself.
const asEngine = "HOLDFAST_ENGINE_TEST_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(asEngine) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

type engine struct {
	t      testing.TB
	cmd    *exec.Cmd
	ready  ready
	stderr *bytes.Buffer
}

func command(t testing.TB, args ...string) (*exec.Cmd, *bytes.Buffer) {
	t.Helper()
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), asEngine+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	return cmd, &stderr
}

// start runs an engine on dir and waits for its ready line.
func start(t testing.TB, dir string, args ...string) *engine {
	t.Helper()
	cmd, stderr := command(t, append([]string{"--state-dir", dir, "--port", "0"}, args...)...)
	stdout, err := cmd.StdoutPipe()
	check(t, err)
	check(t, cmd.Start())
	e := &engine{t: t, cmd: cmd, stderr: stderr}
	t.Cleanup(e.kill)
	line := make(chan []byte, 1)
	go func() {
		text, _ := bufio.NewReader(stdout).ReadBytes('\n')
		line <- text
	}()
	select {
	case text := <-line:
		if err := json.Unmarshal(text, &e.ready); err != nil {
			e.kill()
			t.Fatalf("ready line %q: %v\n%s", text, err, stderr)
		}
	case <-time.After(60 * time.Second):
		e.kill()
		t.Fatalf("not ready after 60 s\n%s", stderr)
	}
	return e
}

func (e *engine) kill() {
	_ = e.cmd.Process.Kill()
	_ = e.cmd.Wait()
}

// terminate stops the engine gracefully and returns how long it took.
func (e *engine) terminate(sig os.Signal) time.Duration {
	e.t.Helper()
	began := time.Now()
	check(e.t, e.cmd.Process.Signal(sig))
	if err := e.cmd.Wait(); err != nil {
		e.t.Fatalf("after %v: %v\n%s", sig, err, e.stderr)
	}
	return time.Since(began)
}

func (e *engine) client() client.Client {
	e.t.Helper()
	c, err := client.Dial(client.Options{HostPort: e.ready.Address, Namespace: "holdfast"})
	check(e.t, err)
	e.t.Cleanup(c.Close)
	return c
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func deadline(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

var attributes = []string{"HoldfastServer", "HoldfastMethod", "HoldfastBackupID", "HoldfastPhase"}

func begin(ctx context.Context, c client.Client, id string) error {
	var values []temporal.SearchAttributeUpdate
	for _, name := range attributes {
		values = append(values, temporal.NewSearchAttributeKeyKeyword(name).ValueSet(name+"-"+id))
	}
	_, err := c.ExecuteWorkflow(ctx, client.StartWorkflowOptions{
		ID: id, TaskQueue: "q", TypedSearchAttributes: temporal.NewSearchAttributes(values...),
	}, "sleeper")
	return err
}

// TestKilledWhileWorkflowsStart kills the engine again and again while workflows are started, and
// expects every workflow whose start was acknowledged, with its search attributes.
func TestKilledWhileWorkflowsStart(t *testing.T) {
	dir := t.TempDir()
	var acknowledged []string
	for round := range 4 {
		e := start(t, dir)
		c := e.client()
		check(t, begin(deadline(t), c, fmt.Sprintf("first-%d", round)))
		acknowledged = append(acknowledged, fmt.Sprintf("first-%d", round))
		var lock sync.Mutex
		var wait sync.WaitGroup
		ctx, cancel := context.WithCancel(deadline(t))
		for w := range 4 {
			wait.Go(func() {
				for i := 0; ; i++ {
					id := fmt.Sprintf("r%d-w%d-%d", round, w, i)
					if begin(ctx, c, id) != nil {
						return
					}
					lock.Lock()
					acknowledged = append(acknowledged, id)
					lock.Unlock()
				}
			})
		}
		time.Sleep(time.Duration(100+rand.IntN(300)) * time.Millisecond)
		e.kill()
		cancel()
		wait.Wait()
	}
	if len(acknowledged) < 20 {
		t.Fatalf("only %d workflows were started: the test proves nothing", len(acknowledged))
	}
	e := start(t, dir)
	c := e.client()
	ctx := deadline(t)
	for _, id := range acknowledged {
		d, err := c.DescribeWorkflowExecution(ctx, id, "")
		if err != nil {
			t.Fatalf("%s was acknowledged: %v", id, err)
		}
		if got := len(d.GetWorkflowExecutionInfo().GetSearchAttributes().GetIndexedFields()); got < len(attributes) {
			t.Errorf("%s has %d search attributes", id, got)
		}
	}
	last := acknowledged[len(acknowledged)-1]
	for _, name := range attributes {
		query := fmt.Sprintf("%s = '%s-%s'", name, name, last)
		eventually(t, query, func() bool {
			n, err := c.CountWorkflow(ctx, &workflowservice.CountWorkflowExecutionsRequest{Query: query})
			return err == nil && n.GetCount() == 1
		})
	}
}

// TestKilledWhileStarting kills the first starts of a state directory at growing distances; whatever
// they left, the next one works.
func TestKilledWhileStarting(t *testing.T) {
	dir := t.TempDir()
	for delay := 40 * time.Millisecond; delay < 900*time.Millisecond; delay += 90 * time.Millisecond {
		cmd, _ := command(t, "--state-dir", dir, "--port", "0")
		check(t, cmd.Start())
		time.Sleep(delay)
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
	e := start(t, dir)
	check(t, begin(deadline(t), e.client(), "after"))
	if leftovers, _ := filepath.Glob(filepath.Join(dir, "*.new*")); len(leftovers) > 0 {
		t.Errorf("left over: %v", leftovers)
	}
}

// TestResumesAfterKill expects a workflow to go on soon after its engine is back on the same port.
func TestResumesAfterKill(t *testing.T) {
	dir := t.TempDir()
	e := start(t, dir)
	c := e.client()
	port := e.ready.Address[strings.LastIndex(e.ready.Address, ":")+1:]
	w := worker.New(c, "q", worker.Options{})
	w.RegisterWorkflowWithOptions(func(ctx workflow.Context) (string, error) {
		workflow.GetSignalChannel(ctx, "go").Receive(ctx, nil)
		return "done", workflow.Sleep(ctx, 50*time.Millisecond)
	}, workflow.RegisterOptions{Name: "waiter"})
	check(t, w.Start())
	defer w.Stop()
	run, err := c.ExecuteWorkflow(deadline(t), client.StartWorkflowOptions{ID: "waiter", TaskQueue: "q"}, "waiter")
	check(t, err)
	e.kill()
	began := time.Now()
	e = start(t, dir, "--port", port)
	check(t, c.SignalWorkflow(deadline(t), "waiter", "", "go", nil))
	var result string
	check(t, run.Get(deadline(t), &result))
	if took := time.Since(began); took > 15*time.Second {
		t.Errorf("resumed after %v", took)
	}
	if took := e.terminate(syscall.SIGTERM); took > 7*time.Second {
		t.Errorf("SIGTERM took %v", took)
	}
}

func TestStopsCleanly(t *testing.T) {
	dir := t.TempDir()
	ui, err := freePorts(1, 0)
	check(t, err)
	for _, sig := range []os.Signal{syscall.SIGTERM, os.Interrupt} {
		e := start(t, dir, "--ui-port", strconv.Itoa(ui[0]))
		if host, _, err := net.SplitHostPort(e.ready.Address); err != nil || host != "127.0.0.1" || e.ready.PID != e.cmd.Process.Pid {
			t.Errorf("ready: %+v", e.ready)
		}
		var file ready
		text, err := os.ReadFile(filepath.Join(dir, "engine.json"))
		check(t, err)
		check(t, json.Unmarshal(text, &file))
		if file != e.ready {
			t.Errorf("engine.json says %+v, stdout %+v", file, e.ready)
		}
		response, err := http.Get(e.ready.UI)
		check(t, err)
		check(t, response.Body.Close())
		if response.StatusCode != http.StatusOK {
			t.Errorf("UI: %s", response.Status)
		}
		if took := e.terminate(sig); took > 7*time.Second {
			t.Errorf("%v took %v", sig, took)
		}
		if _, err := os.Stat(filepath.Join(dir, "engine.json")); !os.IsNotExist(err) {
			t.Errorf("engine.json after a clean stop: %v", err)
		}
	}
}

func TestRefusals(t *testing.T) {
	dir := t.TempDir()
	e := start(t, dir)
	_, port, err := net.SplitHostPort(e.ready.Address)
	check(t, err)
	for _, c := range []struct {
		name string
		args []string
		want []string
	}{
		{"same directory", []string{"--state-dir", dir, "--port", "0"}, []string{"PID " + strconv.Itoa(e.cmd.Process.Pid), dir, "--state-dir"}},
		{"same port", []string{"--state-dir", t.TempDir(), "--port", port}, []string{port, "--port"}},
		{"same UI port", []string{"--state-dir", t.TempDir(), "--port", "0", "--ui-port", port}, []string{port, "--ui-port"}},
		{"no directory", []string{"--port", "0"}, []string{"--state-dir"}},
		{"directory is a file", []string{"--state-dir", os.Args[0], "--port", "0"}, []string{os.Args[0]}},
		{"bad address", []string{"--state-dir", dir, "--ip", "nowhere"}, []string{"--ip", "nowhere"}},
		{"bad level", []string{"--state-dir", dir, "--log-level", "loud"}, []string{"--log-level", "loud"}},
		{"bad attribute", []string{"--state-dir", dir, "--search-attribute", "X=Y"}, []string{"--search-attribute", "X=Y"}},
		{"stray argument", []string{"--state-dir", dir, "start"}, []string{"start"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			cmd, stderr := command(t, c.args...)
			if err := cmd.Run(); err == nil {
				t.Fatal("no error")
			}
			for _, want := range c.want {
				if !strings.Contains(stderr.String(), want) {
					t.Errorf("%q does not name %q", stderr, want)
				}
			}
		})
	}
}

// TestNewAttribute opens an existing database with a search attribute that it lacks.
func TestNewAttribute(t *testing.T) {
	dir := t.TempDir()
	start(t, dir).kill()
	e := start(t, dir, "--search-attribute", "Later=Int")
	key := temporal.NewSearchAttributeKeyInt64("Later")
	_, err := e.client().ExecuteWorkflow(deadline(t), client.StartWorkflowOptions{
		ID: "x", TaskQueue: "q", TypedSearchAttributes: temporal.NewSearchAttributes(key.ValueSet(7)),
	}, "sleeper")
	check(t, err)
}

func TestServesTheSDKsTestsuite(t *testing.T) {
	t.Setenv(asEngine, "1")
	server, err := testsuite.StartDevServer(deadline(t), testsuite.DevServerOptions{
		ExistingPath: os.Args[0], DBFilename: filepath.Join(t.TempDir(), "a b%20.db"), LogFormat: "pretty",
		ClientOptions: &client.Options{Namespace: "other"},
		SearchAttributes: temporal.NewSearchAttributes(
			temporal.NewSearchAttributeKeyBool("Asked").ValueSet(true)),
	})
	check(t, err)
	err = begin(deadline(t), server.Client(), "x")
	if stopped := server.Stop(); stopped != nil || err != nil {
		t.Fatal(err, stopped)
	}
	memory, err := testsuite.StartDevServer(deadline(t), testsuite.DevServerOptions{ExistingPath: os.Args[0]})
	check(t, err)
	err = begin(deadline(t), memory.Client(), "x")
	if stopped := memory.Stop(); stopped != nil || err != nil {
		t.Fatal(err, stopped)
	}
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Errorf("not within 10 s: %s", what)
}

// BenchmarkSteps runs a workflow of many short activities, one after the other.
func BenchmarkSteps(b *testing.B) {
	const steps = 100
	c := start(b, b.TempDir()).client()
	w := worker.New(c, "q", worker.Options{DisableEagerActivities: true})
	w.RegisterActivityWithOptions(func(context.Context) error { return nil }, activity.RegisterOptions{Name: "step"})
	w.RegisterWorkflowWithOptions(func(ctx workflow.Context) error {
		ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{StartToCloseTimeout: time.Minute})
		for range steps {
			if err := workflow.ExecuteActivity(ctx, "step").Get(ctx, nil); err != nil {
				return err
			}
		}
		return nil
	}, workflow.RegisterOptions{Name: "steps"})
	check(b, w.Start())
	defer w.Stop()
	for b.Loop() {
		run, err := c.ExecuteWorkflow(b.Context(), client.StartWorkflowOptions{TaskQueue: "q"}, "steps")
		check(b, err)
		check(b, run.Get(b.Context(), nil))
	}
	b.ReportMetric(float64(b.Elapsed().Milliseconds())/float64(b.N*steps), "ms/step")
}
