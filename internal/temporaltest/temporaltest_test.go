//go:build integration

package temporaltest_test

import (
	"net/http"
	"testing"
	"time"

	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/holdfast-pg/holdfast/internal/temporaltest"
)

func TestAWorkflowOutlivesTheServer(t *testing.T) {
	s := temporaltest.StartWithUI(t)
	response, err := http.Get(s.UI)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	c := s.Client(t)
	w := worker.New(c, "q", worker.Options{})
	w.RegisterWorkflowWithOptions(func(ctx workflow.Context) (string, error) {
		workflow.GetSignalChannel(ctx, "go").Receive(ctx, nil)
		return "done", nil
	}, workflow.RegisterOptions{Name: "waits"})
	if err := w.Start(); err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	run, err := c.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{ID: "waits", TaskQueue: "q", WorkflowExecutionTimeout: time.Minute}, "waits")
	if err != nil {
		t.Fatal(err)
	}
	address, pid := s.Address, s.PID()
	s.Restart(t)
	if s.Address != address || s.PID() == pid {
		t.Errorf("after a restart: %s, PID %d; before: %s, PID %d", s.Address, s.PID(), address, pid)
	}
	if err := c.SignalWorkflow(t.Context(), "waits", "", "go", nil); err != nil {
		t.Fatal(err)
	}
	var result string
	if err := run.Get(t.Context(), &result); err != nil || result != "done" {
		t.Fatal(result, err)
	}
	s.Stop(t)
	s.Stop(t)
}
