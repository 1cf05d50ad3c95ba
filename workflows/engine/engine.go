// Package engine finds and reaches the Temporal server that runs the
// workflows: the one that the environment or a profile names, else the embedded
// one of the state directory.
package engine

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/contrib/envconfig"
	tlog "go.temporal.io/sdk/log"

	"github.com/holdfast-pg/holdfast/internal/atomicfile"
	"github.com/holdfast-pg/holdfast/internal/fault"
)

// Namespace is where Holdfast's workflows live unless the environment names another.
const Namespace = "holdfast"

// Embedded is what a running embedded engine says of itself in the state
// directory.
type Embedded struct {
	Address string `json:"address"`
	UI      string `json:"ui"`
	PID     int    `json:"pid"`
}

const announcement = "engine.json"

// Announce writes what a running engine says of itself into a state directory.
func Announce(stateDir string, e Embedded) error {
	data, err := json.Marshal(e)
	if err != nil {
		return fault.Wrap(fault.Internal, "encode", announcement, err)
	}
	return atomicfile.Write(filepath.Join(stateDir, announcement), append(data, '\n'), 0o644)
}

// Running reads what the embedded engine of a state directory says; nil when
// none runs or ever ran there.
func Running(stateDir string) (*Embedded, error) {
	path := filepath.Join(stateDir, announcement)
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var e Embedded
	if err == nil {
		err = json.Unmarshal(data, &e)
	}
	if err != nil {
		return nil, fault.Wrap(fault.Corrupt, "read", path, err)
	}
	return &e, nil
}

// Options are how the engine is reached. HostPort is empty while none is known: whatever else answers
// at Temporal's usual port of this host is somebody else's.
func Options(stateDir string, log *slog.Logger) (client.Options, error) {
	o, err := envconfig.LoadClientOptions(envconfig.LoadClientOptionsRequest{})
	if err != nil {
		return o, fault.New(fault.Config, "read", "Temporal's environment and profile", "%w", err).
			WithHint("look at TEMPORAL_ADDRESS, TEMPORAL_NAMESPACE, TEMPORAL_PROFILE and the file that TEMPORAL_CONFIG_FILE names")
	}
	if o.HostPort == "" {
		e, err := Running(stateDir)
		if err != nil {
			return o, err
		}
		if e != nil {
			o.HostPort = e.Address
			// It is on this host, where to compress a message takes longer than to send it.
			o.ConnectionOptions.GrpcCompression = &client.GrpcCompressionNone{}
		}
	}
	if o.Namespace == "" || o.Namespace == client.DefaultNamespace && os.Getenv("TEMPORAL_NAMESPACE") == "" {
		o.Namespace = Namespace
	}
	o.Logger = tlog.NewStructuredLogger(log)
	return o, nil
}

// Dial connects; when nobody answers it tries again until timeout is over.
func Dial(ctx context.Context, stateDir string, log *slog.Logger, timeout time.Duration) (client.Client, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	for {
		// Read anew each time: an engine that starts again may have another address, and has none until it is ready.
		o, err := Options(stateDir, log)
		if err != nil {
			return nil, err
		}
		op, where, err := "reach the engine of state directory", stateDir, errNone
		if o.HostPort != "" {
			var c client.Client
			if c, err = client.DialContext(ctx, o); err == nil {
				return c, nil
			}
			op, where = "reach the engine at", o.HostPort
		}
		select {
		case <-ctx.Done():
			return nil, fault.New(fault.Unreachable, op, where, "%w", err).
				WithHint("start it with: holdfast up (or set TEMPORAL_ADDRESS to the Temporal server that runs your workflows)")
		case <-time.After(200 * time.Millisecond):
		}
	}
}

var errNone = errors.New("none is ready")
