package walarchive

import (
	"cmp"
	"context"
	"time"

	"github.com/holdfast-pg/holdfast/internal/catalog"
	"github.com/holdfast-pg/holdfast/internal/codec"
	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/gpg"
	"github.com/holdfast-pg/holdfast/internal/hook"
	"github.com/holdfast-pg/holdfast/internal/objstore"
)

// A store that refuses connections is given up after patience, one that is silent
// after patience and two silences. PostgreSQL, or the next maintenance, tries again.
const (
	patience = 20 * time.Second
	silence  = 20 * time.Second
	// partSize holds a segment of the usual size, so that it is one request, and
	// bounds the memory for each file.
	partSize = 20 << 20
)

// ForServer is the archive that a server's settings describe. stores opens the store
// of one that lies in a bucket, when it is needed.
func ForServer(s *config.Server, stores objstore.Stores) (*Archive, error) {
	c, err := codec.Configured(codec.Options{Compression: s.Compression, Level: s.CompressionLevel, Filter: s.CustomCompressionFilter,
		Unfilter: s.CustomDecompressionFilter, Magic: s.CustomCompressionMagic, PathPrefix: s.PathPrefix})
	if err != nil {
		return nil, err
	}
	opt := Options{Compression: c, Keys: gpg.Of(s), Hooks: hook.Of(s), Batch: s.ArchiverBatchSize,
		Streaming: s.StreamingArchiver, StreamingBatch: s.StreamingArchiverBatchSize}
	if s.WALsCloud != nil {
		if opt.Bucket, err = bucketOf(s, opt, stores); err != nil {
			return nil, err
		}
	}
	return Open(catalog.LayoutOf(s), opt), nil
}

// bucketOf refuses what could be written and not be read, or not be compared.
func bucketOf(s *config.Server, opt Options, stores objstore.Stores) (*Bucket, error) {
	at, err := objstore.ParseURL(s.WALsCloud.URL)
	if err != nil {
		return nil, &fault.Error{Op: "read option", Subject: "wals_directory", Kind: fault.Config, Err: err, Hint: fault.HintOf(err)}
	}
	if _, ok := suffixOf(opt.Compression.Algorithm); !ok {
		return nil, fault.New(fault.Config, "read option", "compression", "WAL in an object store cannot have %q: objects have no suffix for it", s.Compression).
			WithHint("use gzip, zstd, lz4, bzip2, xz or snappy, or leave the option out")
	}
	if opt.Keys.Encrypts() {
		return nil, fault.New(fault.Config, "read option", "encryption", "WAL in an object store is not encrypted with gpg").
			WithHint("let the store encrypt it (aws_encryption, or the bucket's own setting), or keep WAL in a directory")
	}
	o := s.StoreOptions(s.WALsCloud.URL)
	o.AWSReadTimeout = cmp.Or(o.AWSReadTimeout, silence)
	p := &objstore.Policy{Patience: patience, PartSize: max(partSize, int64(o.CloudUploadMinChunkSize))}
	return &Bucket{At: at, Open: func(ctx context.Context) (objstore.Store, error) { return stores(ctx, at, o, p) }}, nil
}
