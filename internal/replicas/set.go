package replicas

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/objstore"
)

// Destination is one of several stores.
type Destination struct {
	URL   string // for people
	Store objstore.Store
	// Trouble says why its requests are being tried again; nil when nobody knows.
	Trouble func() string
}

// Options say when a set goes on without one of its stores.
type Options struct {
	// Quorum is how many have to take part, at least 1.
	Quorum int
	// Aside writes down that one takes part no more. An error of it is one of the set.
	Aside func(url string, cause error) error
	// Stall is how long the others bear with one that does not take a few MiB; a minute when 0.
	Stall time.Duration
}

// Set is several stores that hold the same objects. It is an objstore.Store; Store has the
// abilities that all of them have.
type Set struct {
	all   []Destination
	o     Options
	began time.Time

	mu      sync.Mutex
	aside   map[int]error
	held    map[int]*hold
	uploads map[string]*upload
	begun   int // uploads
}

// hold is how long one store has held up the others.
type hold struct {
	sum   time.Duration
	calls int // that the others have done and it has not
	since time.Time
}

// New makes a set of stores, the main one first.
func New(all []Destination, o Options) (*Set, error) {
	s := &Set{all: all, o: o, began: time.Now(), aside: map[int]error{}, held: map[int]*hold{}, uploads: map[string]*upload{}}
	s.o.Quorum = max(o.Quorum, 1)
	if s.o.Stall <= 0 {
		s.o.Stall = time.Minute
	}
	if len(all) < s.o.Quorum {
		return nil, s.short(nil)
	}
	return s, nil
}

// Aside are those that take part no more, and why.
func (s *Set) Aside() map[string]error {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := map[string]error{}
	for i, err := range s.aside {
		out[s.all[i].URL] = err
	}
	return out
}

// Trouble says what stands in the way now, in words for people; "" for nothing.
func (s *Set) Trouble() string {
	var out []string
	for _, i := range s.taking() {
		if t := s.all[i].trouble(); t != "" {
			out = append(out, s.all[i].URL+": "+t)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.all {
		if err := s.aside[i]; err != nil {
			out = append(out, fmt.Sprintf("goes on without %s (%v)", s.all[i].URL, err))
		}
	}
	return strings.Join(out, "; ")
}

func (d Destination) trouble() string {
	if d.Trouble == nil {
		return ""
	}
	return d.Trouble()
}

// taking are the numbers of those that take part.
func (s *Set) taking() []int {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []int
	for i := range s.all {
		if s.aside[i] == nil {
			out = append(out, i)
		}
	}
	return out
}

// Each calls do for every store that takes part, at the same time. One for which it fails
// is set aside; the error says that too few would be left.
func (s *Set) Each(ctx context.Context, do func(ctx context.Context, d Destination) error) error {
	return s.each(ctx, 0, func(ctx context.Context, i int) error { return do(ctx, s.all[i]) })
}

// call is what runs for one store.
type call struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
	limit  time.Duration // how long it may hold up the others; 0 for ever
}

// each is Each for calls by which nobody may be held up for longer than stall; 0 is for ever.
func (s *Set) each(ctx context.Context, stall time.Duration, do func(ctx context.Context, i int) error) error {
	type outcome struct {
		i   int
		err error
	}
	taking := s.taking()
	calls, ends := map[int]*call{}, make(chan outcome, len(taking))
	for _, i := range taking {
		c := &call{}
		c.ctx, c.cancel = context.WithCancelCause(ctx)
		calls[i] = c
		go func() { ends <- outcome{i, do(c.ctx, i)} }()
	}
	var failed error
	var late <-chan time.Time
	var began time.Time // of the wait for those that are late
	done := 0
	end := func(i int, err error) {
		calls[i].cancel(err)
		delete(calls, i)
		if !began.IsZero() {
			s.unhold(i)
		}
		if err == nil {
			done++
		} else if ctx.Err() == nil && failed == nil {
			if failed = s.setAside(i, err); failed != nil {
				for _, other := range calls {
					other.cancel(failed)
				}
			}
		}
	}
	for len(calls) > 0 {
		select {
		case e := <-ends:
			if calls[e.i] != nil { // else nobody waits for it any more
				end(e.i, e.err)
			}
			if stall > 0 && began.IsZero() && done >= s.o.Quorum {
				began = time.Now()
				for i, c := range calls {
					c.limit = s.hold(i, stall)
				}
			}
		case <-late:
			for i, c := range calls {
				if time.Since(began) >= c.limit {
					end(i, s.slow(i)) // without waiting for what may never return
				}
			}
		}
		late = nil
		if !began.IsZero() {
			late = next(calls, began)
		}
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return failed
}

// next is when the patience with one of the calls is over.
func next(calls map[int]*call, began time.Time) <-chan time.Time {
	var first time.Duration = -1
	for _, c := range calls {
		if left := max(0, c.limit-time.Since(began)); first < 0 || left < first {
			first = left
		}
	}
	if first < 0 {
		return nil
	}
	return time.After(first)
}

// leeway is how long a replica may hold up the others in sum, beside as long as they need themselves.
const leeway = 10 * time.Minute

// mainPatience is how many times longer than a replica the main store may hold up the others.
const mainPatience = 15

// hold begins to reckon how long one holds up the others, and returns how long it may.
func (s *Set) hold(i int, stall time.Duration) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := s.held[i]
	if h == nil {
		h = &hold{}
		s.held[i] = h
	}
	now := time.Now()
	if h.calls == 0 {
		h.since = now
	}
	h.calls++
	if i == 0 {
		return mainPatience * stall // and it may always be slower than its replicas
	}
	sum := h.sum + now.Sub(h.since)
	return min(stall, max(0, leeway+now.Sub(s.began)/2-sum))
}

func (s *Set) unhold(i int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := s.held[i]
	if h == nil || h.calls == 0 {
		return
	}
	if h.calls--; h.calls == 0 {
		h.sum += time.Since(h.since)
	}
}

// slow says why one that was slow was set aside.
func (s *Set) slow(i int) error {
	why := "it held up the others for too long"
	if t := s.all[i].trouble(); t != "" {
		why += ": " + t
	}
	return fault.New(fault.Connection, "store at", s.all[i].URL, "%s", why).
		WithHint("see what makes it slow; it gets the backup when it answers again")
}

// setAside goes on without a store, if enough are left.
func (s *Set) setAside(i int, cause error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.aside[i] != nil {
		return nil
	}
	if len(s.all)-len(s.aside)-1 < s.o.Quorum {
		return s.short(&lost{s.all[i].URL, cause})
	}
	if s.o.Aside != nil {
		if err := s.o.Aside(s.all[i].URL, cause); err != nil {
			return err
		}
	}
	s.aside[i] = cause
	return nil
}

type lost struct {
	url   string
	cause error
}

// short is the error of a set of which too few are left, with the cause of each.
func (s *Set) short(last *lost) error {
	var causes []string
	left := len(s.all) - len(s.aside)
	e := &fault.Error{Op: "store at", Kind: fault.Config}
	if last != nil {
		left--
		e.Subject, e.Kind, e.Hint = last.url, fault.KindOf(last.cause), fault.HintOf(last.cause)
		if len(s.all) == 1 {
			e.Err = last.cause
			return e
		}
		causes = append(causes, last.cause.Error())
	}
	for i, d := range s.all {
		if err := s.aside[i]; err != nil {
			causes = append(causes, fmt.Sprintf("%s was set aside before: %v", d.URL, err))
		}
	}
	e.Err = fmt.Errorf("%s; %d of %d destinations are left, and holdfast_replica_quorum = %d", strings.Join(causes, "; "), left, len(s.all), s.o.Quorum)
	return e
}
