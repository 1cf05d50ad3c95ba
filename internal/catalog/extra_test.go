package catalog_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-pg/holdfast/internal/catalog"
	"github.com/holdfast-pg/holdfast/internal/snapshot"
)

// TestExtraForgets: what is taken out of a record, or replaced, is so when it is read
// again; what a later version has added stays.
func TestExtraForgets(t *testing.T) {
	c := newCatalog(t)
	e := &catalog.Extra{WorkflowID: "w", RunID: "r", Method: "m", Attempts: []catalog.Attempt{{Number: 1}}, FirstError: "e", Hint: "h",
		Proof: &catalog.Proof{Files: 1}, TablespaceMap: "t", RestorePoint: "p", Snapshots: &snapshot.Record{Provider: "btrfs"}}
	if err := c.SaveExtra(first, e); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(c.MetaDir, first+"-holdfast.json")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(strings.Replace(string(text), "{", `{"later": 1,`, 1)), 0o644); err != nil {
		t.Fatal(err)
	}
	got, err := c.Extra(first)
	if err != nil || got.Snapshots == nil || got.Hint != "h" {
		t.Fatalf("%+v, %v", got, err)
	}
	got.Attempts, got.FirstError, got.Hint, got.Proof, got.TablespaceMap, got.RestorePoint, got.Snapshots = nil, "", "", nil, "", "", nil
	if err := c.SaveExtra(first, got); err != nil {
		t.Fatal(err)
	}
	if text, err = os.ReadFile(path); err != nil {
		t.Fatal(err)
	}
	if want := `{"later":1,"method":"m","run_id":"r","version":1,"workflow_id":"w"}`; strings.Join(strings.Fields(string(text)), "") != want {
		t.Errorf("%s, not %s", text, want)
	}
}
