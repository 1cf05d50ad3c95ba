package gcs

import (
	"net/http"
	"os"
	"strings"

	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/internal/googletoken"
	"github.com/holdfast-pg/holdfast/internal/objstore"
)

const (
	scope = "https://www.googleapis.com/auth/devstorage.read_write"
	// emulatorVariable names a server that asks for no credentials.
	emulatorVariable = "STORAGE_EMULATOR_HOST"
)

// Store is a prefix of a bucket.
type Store struct {
	client  *http.Client
	at      objstore.Location
	policy  *objstore.Policy
	options config.CloudOptions
	base    string              // of all URLs
	tokens  *googletoken.Source // nil: none are needed
}

var (
	_ objstore.Store     = (*Store)(nil)
	_ objstore.Levels    = (*Store)(nil)
	_ objstore.Parts     = (*Store)(nil)
	_ objstore.Copier    = (*Store)(nil)
	_ objstore.Locker    = (*Store)(nil)
	_ objstore.Multipart = (*Store)(nil)
)

// Open prepares a store; it asks it for nothing. Credentials are the application
// default ones, looked for at the first request and fetched anew when they expire.
func Open(at objstore.Location, o config.CloudOptions, p *objstore.Policy) (*Store, error) {
	s := &Store{at: at, policy: p, options: o, client: p.Client(nil, 0)}
	universe := os.Getenv(googletoken.UniverseVariable)
	s.tokens = &googletoken.Source{For: "Google Cloud Storage", Scope: scope}
	switch emulator := os.Getenv(emulatorVariable); {
	case o.HoldfastEndpointURL != "":
		s.base = o.HoldfastEndpointURL
	case emulator != "":
		s.tokens = nil
		if s.base = emulator; !strings.Contains(emulator, "://") {
			s.base = "http://" + emulator
		}
	case universe != "":
		s.base = "https://storage." + universe
	default:
		s.base = "https://storage.googleapis.com"
	}
	if err := objstore.CheckEndpoint(s.base); err != nil {
		return nil, err
	}
	s.base = strings.TrimSuffix(s.base, "/")
	return s, nil
}
