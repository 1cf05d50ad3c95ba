package engine_test

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/workflows/engine"
)

// TestAnotherEngineIsNotOurs: an engine that starts is known to nobody until it is ready. Whoever looked for it then
// was sent to Temporal's usual port, and served what ran there for good.
func TestAnotherEngineIsNotOurs(t *testing.T) {
	for _, name := range []string{"TEMPORAL_ADDRESS", "TEMPORAL_PROFILE", "TEMPORAL_NAMESPACE"} {
		t.Setenv(name, "")
	}
	t.Setenv("TEMPORAL_CONFIG_FILE", "/nonexistent")
	dir, log := t.TempDir(), slog.New(slog.DiscardHandler)
	o, err := engine.Options(dir, log)
	if err != nil || o.HostPort != "" || o.Namespace != engine.Namespace {
		t.Errorf("without an engine: %q, %q, %v", o.HostPort, o.Namespace, err)
	}
	_, err = engine.Dial(t.Context(), dir, log, 300*time.Millisecond)
	if !fault.Is(err, fault.Unreachable) || !strings.Contains(err.Error(), dir) || !strings.Contains(fault.HintOf(err), "holdfast up") {
		t.Errorf("without an engine: %v", err)
	}
	if err := engine.Announce(dir, engine.Embedded{Address: "127.0.0.1:1"}); err != nil {
		t.Fatal(err)
	}
	_, err = engine.Dial(t.Context(), dir, log, 300*time.Millisecond)
	if !fault.Is(err, fault.Unreachable) || !strings.Contains(err.Error(), "127.0.0.1:1") {
		t.Errorf("with an engine that is away: %v", err)
	}
	t.Setenv("TEMPORAL_ADDRESS", "127.0.0.1:2")
	if o, err := engine.Options(dir, log); err != nil || o.HostPort != "127.0.0.1:2" {
		t.Errorf("with an address: %q, %v", o.HostPort, err)
	}
}
