package workflows_test

import (
	"path/filepath"
	"testing"

	"go.temporal.io/sdk/worker"

	"github.com/holdfast-pg/holdfast/workflows"
)

// TestReplay runs recorded histories through today's workflows: what was running
// when the program was replaced must go on. Tests in worker/ record them.
func TestReplay(t *testing.T) {
	files, err := filepath.Glob("testdata/*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("no histories: %v", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			r := worker.NewWorkflowReplayer()
			r.RegisterWorkflow(workflows.BackupWorkflow)
			r.RegisterWorkflow(workflows.ScheduledBackupWorkflow)
			r.RegisterWorkflow(workflows.MaintenanceWorkflow)
			r.RegisterWorkflow(workflows.ReplicasWorkflow)
			if err := r.ReplayWorkflowHistoryFromJSONFile(nil, file); err != nil {
				t.Error(err)
			}
		})
	}
}
