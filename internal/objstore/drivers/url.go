package drivers

import (
	"context"

	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/internal/objstore"
)

// OpenURL opens the store of a URL that a server's configuration names, with its options.
func OpenURL(ctx context.Context, url string, s *config.Server, p *objstore.Policy) (objstore.Store, error) {
	at, err := objstore.ParseURL(url)
	if err != nil {
		return nil, err
	}
	return Open(ctx, at, s.CloudOptions, p)
}
