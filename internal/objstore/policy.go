package objstore

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/holdfast-pg/holdfast/internal/fault"
)

// Policy is how a store is used; all streams of a backup share one. The zero
// value tries nothing again and limits nothing.
type Policy struct {
	// Patience is for how long a request is tried again after its first failure.
	Patience time.Duration
	// Limit bounds the bytes in both directions; nil is no limit.
	Limit *Limit
	// PartSize is the size of the parts that streams are cut into; MinPart when smaller.
	PartSize int64
	// Counts grows with what is done.
	Counts Counts

	trouble atomic.Pointer[string]
}

// Trouble says why requests are being tried again, and what cures it, in words for people; "" when none is.
func (p *Policy) Trouble() string {
	if t := p.trouble.Load(); t != nil {
		return *t
	}
	return ""
}

// told keeps what stands in the way. Requests run beside each other: one that succeeds ends it for all.
func (p *Policy) told(err error) {
	text := err.Error()
	if hint := fault.HintOf(err); hint != "" {
		text += " (" + hint + ")"
	}
	p.trouble.Store(&text)
}

// ErrExpired is in the errors of requests that were refused because their credentials have
// expired. Drivers look for new ones with the next try.
var ErrExpired = errors.New("the credentials have expired")

// curable reports whether waiting can cure what a request failed with.
func curable(err error) bool { return fault.Is(err, fault.Connection) || errors.Is(err, ErrExpired) }

// Counts are what was asked of a store.
type Counts struct{ Requests, Retries, Sent, Received atomic.Int64 }

const (
	// mostDamaged is how many times what arrives damaged is sent: more than that is no accident.
	mostDamaged = 4

	firstPause = 100 * time.Millisecond
	longPause  = 5 * time.Second
)

// Do calls request until it succeeds, or fails with what waiting cannot cure, or
// Patience is over. What a store says was damaged on its way is sent again, a few times. again says that an earlier call may have been carried out.
func (p *Policy) Do(ctx context.Context, request func(ctx context.Context, again bool) error) error {
	var over <-chan time.Time
	var last error
	damaged := 0
	for pause, again := firstPause, false; ; pause, again = min(2*pause, longPause), true {
		if ctx.Err() != nil {
			return ended(ctx, last)
		}
		err := request(ctx, again)
		switch {
		case err == nil:
			p.trouble.Store(nil)
			return nil
		case ctx.Err() != nil:
			return ended(ctx, last)
		}
		last = err
		worthwhile := curable(err)
		if fault.Is(err, fault.Corrupt) {
			damaged++
			worthwhile = damaged < mostDamaged
		}
		if !worthwhile || p.Patience <= 0 {
			return err
		}
		if over == nil {
			over = time.After(p.Patience)
		}
		p.Counts.Retries.Add(1)
		p.told(err)
		select { // between half the pause and all of it, so that many clients do not come back at once
		case <-time.After(pause/2 + rand.N(pause/2)):
		case <-over:
			return &fault.Error{Op: "give up after " + p.Patience.String(), Kind: fault.KindOf(err), Err: err, Hint: fault.HintOf(err)}
		case <-ctx.Done():
			return ended(ctx, last)
		}
	}
}

// ended is why a request is not tried again. A deadline is no cause: what failed last is.
func ended(ctx context.Context, last error) error {
	cause := context.Cause(ctx)
	if last == nil || !errors.Is(cause, context.DeadlineExceeded) {
		return cause
	}
	return &fault.Error{Op: "give up when the time is up", Kind: fault.KindOf(last), Err: last, Hint: fault.HintOf(last)}
}

// PartSize is the size of a part by its number, least that of the first one. It grows, so
// that a stream of unknown length fits into MaxParts: 5 TB when it begins with 5 MiB.
func PartSize(least int64, number int) int64 { return max(least, MinPart) << ((number - 1) / 1000) }

func (p *Policy) partSize(number int) int64 { return PartSize(p.PartSize, number) }

// Limit is one limit of bytes per second for all that use it.
type Limit struct {
	perSecond int64
	mu        sync.Mutex
	free      time.Time // when what was let through has passed
}

// NewLimit is nil, which limits nothing, unless bytesPerSecond is positive.
func NewLimit(bytesPerSecond int64) *Limit {
	if bytesPerSecond <= 0 {
		return nil
	}
	return &Limit{perSecond: bytesPerSecond}
}

// Wait lets n bytes through when those before have passed.
func (l *Limit) Wait(ctx context.Context, n int) error {
	if l == nil || n <= 0 {
		return nil
	}
	l.mu.Lock()
	now := time.Now()
	if l.free.Before(now) {
		l.free = now
	}
	wait := l.free.Sub(now)
	l.free = l.free.Add(time.Duration(float64(n) / float64(l.perSecond) * float64(time.Second)))
	l.mu.Unlock()
	if wait <= 0 {
		return nil
	}
	select {
	case <-time.After(wait):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// errQuiet ends a request whose other end has fallen silent.
var errQuiet = errors.New("no answer within the time of aws_read_timeout, or 60 seconds")
