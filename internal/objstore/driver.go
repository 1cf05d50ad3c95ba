package objstore

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/holdfast-pg/holdfast/internal/fault"
)

// ByteRange is the header for the bytes from one offset up to, and without, another; to < 0 is the end.
func ByteRange(from, to int64) string {
	if to < 0 {
		return fmt.Sprintf("bytes=%d-", from)
	}
	return fmt.Sprintf("bytes=%d-%d", from, to-1)
}

// RangeTotal is the size of the object of which a Content-Range header tells a part; without one it is length.
func RangeTotal(key, header string, length int64) (int64, error) {
	if header == "" {
		return length, nil
	}
	_, total, _ := strings.Cut(header, "/")
	size, err := strconv.ParseInt(total, 10, 64)
	if err != nil {
		return 0, fault.New(fault.Unavailable, "read", key, "the store answers with the range %q", header).
			WithHint("see whether it is a store of the kind that its URL says")
	}
	return size, nil
}

// OwnAfterAll forgives that a key is taken when an earlier try of ours took it: there is what was sent. It
// puts what the store tells of it into sent.
func OwnAfterAll(ctx context.Context, sent *Object, again bool, err error, stat func(ctx context.Context, key string) (Object, error)) error {
	if !again || !fault.Is(err, fault.Conflict) && !fault.Is(err, fault.NotFound) {
		return err
	}
	there, serr := stat(ctx, sent.Key)
	if serr != nil || !Same(there, sent.Size, sent.CRC32C) {
		return err
	}
	*sent = there
	return nil
}

// eachAtOnce is how many requests are on their way at the same time where a store takes one key each.
const eachAtOnce = 16

// Each calls do for each of n, some at the same time, until one fails.
func Each(ctx context.Context, n int, do func(ctx context.Context, i int) error) error {
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(eachAtOnce)
	for i := range n {
		g.Go(func() error {
			if gctx.Err() != nil {
				return context.Cause(gctx)
			}
			return do(gctx, i)
		})
	}
	return g.Wait()
}
