package main

import (
	"context"
	"slices"
	"time"

	"github.com/holdfast-pg/holdfast/internal/check"
	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/objstore"
	"github.com/holdfast-pg/holdfast/internal/objstore/drivers"
	"github.com/holdfast-pg/holdfast/internal/storecheck"
)

var addressingStyles = []string{"auto", "path", "virtual"}

// checkPatience is for how long a check tries one request again.
const checkPatience = 10 * time.Second

// checkStore is "check --store".
func (a *app) checkStore(ctx context.Context, names []string, o checkOptions) error {
	at, err := objstore.ParseURL(o.store)
	if err != nil {
		return err
	}
	options := config.CloudOptions{}
	if len(names) > 0 {
		s, err := a.server(names[0])
		if err != nil {
			return err
		}
		options = s.StoreOptions(o.store)
	}
	if o.endpoint != "" {
		options.HoldfastEndpointURL = o.endpoint
	}
	if o.style != "" {
		if !slices.Contains(addressingStyles, o.style) {
			return fault.New(fault.Usage, "read", "--addressing-style "+o.style, "it is auto, path or virtual")
		}
		options.HoldfastS3AddressingStyle = o.style
	}
	store, err := drivers.Open(ctx, at, options, &objstore.Policy{Patience: checkPatience, PartSize: int64(options.CloudUploadMinChunkSize)})
	if err != nil {
		return err
	}
	items, err := storecheck.Run(ctx, store, time.Now)
	if err != nil {
		return err
	}
	a.json[at.String()] = itemsObject(items)
	a.print("Store %s:", at)
	for _, i := range items {
		a.print("\t%s", a.painted(i))
	}
	if check.Failed(items) {
		return exitError(1)
	}
	return nil
}
