package walarchive

import (
	"github.com/holdfast-pg/holdfast/internal/catalog"
	"github.com/holdfast-pg/holdfast/internal/codec"
	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/internal/gpg"
	"github.com/holdfast-pg/holdfast/internal/hook"
)

// ForServer is the archive that a server's settings describe.
func ForServer(s *config.Server) (*Archive, error) {
	c, err := codec.Configured(codec.Options{Compression: s.Compression, Level: s.CompressionLevel, Filter: s.CustomCompressionFilter,
		Unfilter: s.CustomDecompressionFilter, Magic: s.CustomCompressionMagic, PathPrefix: s.PathPrefix})
	if err != nil {
		return nil, err
	}
	return Open(catalog.LayoutOf(s), Options{Compression: c, Keys: gpg.Of(s), Hooks: hook.Of(s), Batch: s.ArchiverBatchSize,
		Streaming: s.StreamingArchiver, StreamingBatch: s.StreamingArchiverBatchSize}), nil
}
