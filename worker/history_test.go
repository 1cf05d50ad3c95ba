//go:build integration

package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	enums "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/history/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/holdfast-pg/holdfast/activities"
	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/internal/stacktest"
	"github.com/holdfast-pg/holdfast/workflows"
	"github.com/holdfast-pg/holdfast/workflows/engine"
)

// maxHistory bounds a backup's history, whatever the cluster's size.
const maxHistory = 200 << 10

// TestHistoriesAreSmallAndSilent looks at the histories of real backups: they
// are small and hold no password. With HOLDFAST_RECORD=1 they become the
// fixtures of the replay test.
func TestHistoriesAreSmallAndSilent(t *testing.T) {
	t.Parallel()
	const secret = "pa55-in-the-dsn"
	eachMethod(t, func(t *testing.T, b *bed, method string) {
		b.Configure(t, method, "streaming_conninfo = "+b.Cluster.DSN()+" password="+secret)
		for _, c := range []struct{ name, method, victim string }{
			{"postgres", config.MethodPostgres, ""},
			{"postgres-child-killed", config.MethodPostgres, "child"},
			{"local-rsync", config.MethodLocalRsync, ""},
			{"local-rsync-session-lost", config.MethodLocalRsync, "session"},
			{"local-rsync-keeper-killed", config.MethodLocalRsync, "keeper"},
		} {
			if c.method != method {
				continue
			}
			t.Run(c.name, func(t *testing.T) {
				var got taken
				if c.victim == "" {
					got = b.backup(t)
				} else {
					got = took(t, b.during(t, func() { b.Kill(t, c.victim) }, slow...))
				}
				b.checkListed(t, method, got)
				h := b.history(t)
				for _, e := range h.Events {
					if text := e.String(); strings.Contains(text, secret) {
						t.Errorf("event %d holds the password", e.EventId)
					}
				}
				if os.Getenv("HOLDFAST_RECORD") != "" {
					record(t, c.name, h)
				}
			})
		}
	})
}

// record makes a history a fixture.
func record(t *testing.T, name string, h *history.History) {
	t.Helper()
	data, err := protojson.Marshal(h)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join("..", "workflows", "testdata", name+".json"), data, 0o644); err != nil {
		t.Fatal(err)
	}
}

// client reaches the stack's engine.
func (b *bed) client(t *testing.T) (client.Client, context.Context) {
	t.Helper()
	e, err := engine.Running(filepath.Join(b.Home, ".holdfast"))
	if err != nil || e == nil {
		t.Fatal(e, err)
	}
	c, err := client.Dial(client.Options{HostPort: e.Address, Namespace: engine.Namespace})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return c, ctx
}

func (b *bed) history(t *testing.T) *history.History {
	t.Helper()
	return b.historyOf(t, workflows.BackupID(stacktest.Server))
}

// keepHistory makes the history of a workflow a fixture, if that is wanted.
func (b *bed) keepHistory(t *testing.T, name, id string) {
	t.Helper()
	if h := b.historyOf(t, id); os.Getenv("HOLDFAST_RECORD") != "" {
		record(t, name, h)
	}
}

// historyOf is the history of the latest run of a workflow; it must be small.
func (b *bed) historyOf(t *testing.T, id string) *history.History {
	t.Helper()
	c, ctx := b.client(t)
	out := &history.History{}
	for it := c.GetWorkflowHistory(ctx, id, "", false, enums.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT); it.HasNext(); {
		event, err := it.Next()
		if err != nil {
			t.Fatal(err)
		}
		out.Events = append(out.Events, event)
	}
	if n := proto.Size(out); n > maxHistory {
		t.Errorf("the history of %s has %d bytes, at most %d are allowed", id, n, maxHistory)
	}
	return out
}

// checkListed finds the backup as somebody does who looks for it in the UI.
func (b *bed) checkListed(t *testing.T, method string, got taken) {
	t.Helper()
	c, ctx := b.client(t)
	query := fmt.Sprintf("%s = '%s' and %s = '%s' and %s = '%s' and %s = 'done'", activities.AttrServer, stacktest.Server,
		activities.AttrMethod, method, activities.AttrBackupID, got.ID, activities.AttrPhase)
	for deadline := time.Now().Add(patience); ; time.Sleep(100 * time.Millisecond) {
		list, err := c.ListWorkflow(ctx, &workflowservice.ListWorkflowExecutionsRequest{Query: query})
		if err != nil {
			t.Fatal(err)
		}
		if len(list.GetExecutions()) == 1 {
			return
		}
		if time.Now().After(deadline) {
			t.Errorf("%d workflows are found with %s", len(list.GetExecutions()), query)
			return
		}
	}
}
