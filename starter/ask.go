package main

import (
	"context"
	"time"

	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/internal/pg"
	"github.com/holdfast-pg/holdfast/internal/postgres"
)

// reply is what a server says of itself: nil is what it did not say, and err why.
type reply struct {
	facts    *postgres.Facts
	archiver *postgres.Archiver
	err      error
}

// ask connects to a server.
func ask(ctx context.Context, s *config.Server) (r reply) {
	ctx, cancel := context.WithTimeout(ctx, max(s.CheckTimeout, 5*time.Second))
	defer cancel()
	c, err := pg.Connect(ctx, s.Conninfo.Reveal())
	if err != nil {
		return reply{err: err}
	}
	defer c.Close()
	facts, err := c.MeasuredFacts(ctx)
	if err != nil {
		return reply{err: err}
	}
	r.facts = &facts
	archiver, err := c.Archiver(ctx)
	if err != nil {
		r.err = err
		return r
	}
	r.archiver = &archiver
	return r
}

// askAll asks servers at the same time. It says nothing of disabled and
// inactive ones.
func askAll(ctx context.Context, servers []*config.Server) []reply {
	out := make([]reply, len(servers))
	_ = atOnce(len(servers), func(i int) error { // what failed is in the replies
		if s := servers[i]; !s.Disabled() && s.Active && !s.Passive {
			out[i] = ask(ctx, s)
		}
		return nil
	})
	return out
}
