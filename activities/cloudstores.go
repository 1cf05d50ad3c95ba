package activities

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/holdfast-pg/holdfast/internal/backup"
	"github.com/holdfast-pg/holdfast/internal/bucket"
	"github.com/holdfast-pg/holdfast/internal/catalog"
	"github.com/holdfast-pg/holdfast/internal/cloudcopy"
	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/objstore"
	"github.com/holdfast-pg/holdfast/internal/replicas"
)

// cloudStores are the object stores that a backup goes to.
type cloudStores struct {
	policies []*objstore.Policy
	limit    *objstore.Limit
	partSize int64

	main   string           // URL of the main one
	taking []*bucket.Bucket // those that take part, the main one first
	store  objstore.Store   // all of them
	set    *replicas.Set    // nil when there is one
	says   atomic.Pointer[func() string]
}

// newCloudStores has no stores yet; what all of them send is limited together.
func newCloudStores(s *config.Server) *cloudStores {
	return &cloudStores{limit: objstore.NewLimit(int64(s.BandwidthLimit) * 1000), partSize: int64(s.CloudUploadMinChunkSize)}
}

// shortly is the policy of what must not wait for long.
func shortly() *objstore.Policy { return &objstore.Policy{Patience: recordPatience} }

// unfenced is for whoever writes nothing that a predecessor could write, too.
type unfenced struct{}

// Do implements cloudcopy.Fence.
func (unfenced) Do(write func() error) error { return write() }

// open opens the stores that are not behind with a backup. One that fails later is left
// behind, which guard lets be written down.
func (c *cloudStores) open(ctx context.Context, s *config.Server, stores objstore.Stores, cat *catalog.Catalog, id backup.ID, guard cloudcopy.Fence) error {
	all, err := bucket.All(ctx, s, stores, func() *objstore.Policy {
		p := &objstore.Policy{Patience: storePatience, PartSize: c.partSize, Limit: c.limit}
		c.policies = append(c.policies, p)
		return p
	})
	if err != nil {
		return err
	}
	if all == nil {
		return fault.New(fault.Config, "back up", s.Name, "basebackups_directory is no object store").
			WithHint("the configuration was changed while the backup ran: take another one")
	}
	d, err := cat.Destinations(id)
	if err != nil {
		return err
	}
	c.main, c.taking = all[0].URL, bucket.Holding(all, d)
	var list []replicas.Destination
	for _, b := range c.taking {
		list = append(list, replicas.Destination{URL: b.URL, Store: b.Store(), Trouble: c.policies[slices.Index(all, b)].Trouble})
	}
	if d == nil && len(list) > 0 {
		c.store = list[0].Store
		c.says.Store(&list[0].Trouble)
		return nil
	}
	quorum := s.HoldfastReplicaQuorum
	if len(list) < quorum || len(list) == 0 {
		return tooFew(quorum, d)
	}
	set, err := replicas.New(list, replicas.Options{Quorum: quorum, Aside: func(url string, cause error) error {
		return guard.Do(func() error { return cat.SetBehind(id, url, cause.Error(), time.Now()) })
	}})
	if err != nil {
		return err
	}
	c.set, c.store = set, set.Store()
	says := set.Trouble
	c.says.Store(&says)
	return nil
}

// tooFew is the failure of a backup with less destinations than the quorum, with the cause of each.
func tooFew(quorum int, d catalog.Destinations) error {
	var causes []string
	for _, one := range d.Lacking() {
		causes = append(causes, one.URL+": "+one.Behind)
	}
	return fault.New(fault.Refused, "store the backup at", "its destinations", "too few of them are left for holdfast_replica_quorum = %d; %s", quorum, strings.Join(causes, "; ")).
		WithHint("see why they do not answer, or lower holdfast_replica_quorum, and take another backup")
}

// allHold reports whether all stores lack nothing of a backup with some destinations.
func (c *cloudStores) allHold(d catalog.Destinations) bool {
	if d == nil {
		return len(c.taking) == 1 && c.taking[0].URL == c.main
	}
	return len(bucket.Holding(c.taking, d)) == len(c.taking)
}

// each calls do for every store. One for which it fails is left behind, if enough others are left.
func (c *cloudStores) each(ctx context.Context, do func(ctx context.Context, b *bucket.Bucket) error) error {
	if c.set == nil {
		return do(ctx, c.taking[0])
	}
	return c.set.Each(ctx, func(ctx context.Context, d replicas.Destination) error {
		return do(ctx, c.taking[slices.IndexFunc(c.taking, func(b *bucket.Bucket) bool { return b.URL == d.URL })])
	})
}

// trouble says what stands in the way, in words for people.
func (c *cloudStores) trouble() string {
	if says := c.says.Load(); says != nil {
		return (*says)()
	}
	return ""
}

// checkStores makes sure that enough of the stores, where backups go to any, can be written to.
func (p *Preflight) checkStores(ctx context.Context, s *config.Server) error {
	all, err := bucket.All(ctx, s, p.Stores, shortly)
	if err != nil || len(all) == 0 {
		return err
	}
	if len(all) == 1 {
		return all[0].Probe(ctx)
	}
	failed := make([]error, len(all))
	_ = objstore.Each(ctx, len(all), func(ctx context.Context, i int) error {
		failed[i] = all[i].Probe(ctx)
		return nil
	})
	var first error
	var causes []string
	for _, err := range failed {
		if err != nil {
			causes = append(causes, err.Error())
			if first == nil {
				first = err
			}
		}
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if len(all)-len(causes) < s.HoldfastReplicaQuorum {
		return &fault.Error{Op: "back up", Subject: s.Name, Kind: fault.KindOf(first), Hint: fault.HintOf(first),
			Err: fmt.Errorf("%d of %d destinations can be used, and holdfast_replica_quorum = %d: %s", len(all)-len(causes), len(all), s.HoldfastReplicaQuorum, strings.Join(causes, "; "))}
	}
	return nil
}
