// Package drivers is the one list of drivers of object stores. Only mains import it,
// so that everything else takes an objstore.Store and links no client of a vendor.
package drivers

import (
	"context"

	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/objstore"
	"github.com/holdfast-pg/holdfast/internal/objstore/azure"
	"github.com/holdfast-pg/holdfast/internal/objstore/file"
	"github.com/holdfast-pg/holdfast/internal/objstore/gcs"
	"github.com/holdfast-pg/holdfast/internal/objstore/s3"
)

// Open opens the store of a location. Of buckets it asks nothing yet.
func Open(ctx context.Context, at objstore.Location, o config.CloudOptions, p *objstore.Policy) (objstore.Store, error) {
	switch at.Provider {
	case objstore.S3:
		return s3.Open(ctx, at, o, p)
	case objstore.GCS:
		return gcs.Open(at, o, p)
	case objstore.Azure:
		return azure.Open(at, o, p)
	case objstore.File:
		return file.Open(at, p)
	}
	return nil, fault.New(fault.Internal, "open", at.String(), "there is no driver for stores of its kind")
}
