package main

import (
	"context"
	"log/slog"
	"sync"

	"github.com/holdfast-pg/holdfast/activities"
	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/keeper"
	"github.com/holdfast-pg/holdfast/internal/pg"
)

// connect opens a connection for questions.
func connect(ctx context.Context, conninfo string) (activities.Server, error) {
	return pg.Connect(ctx, conninfo)
}

// connectExclusive opens a connection to a server that may be in exclusive backup
// mode.
func connectExclusive(ctx context.Context, conninfo string) (activities.ExclusiveServer, error) {
	return pg.Connect(ctx, conninfo)
}

// openBracket opens a session of the kind that the copy needs.
func openBracket(ctx context.Context, bracket, conninfo string) (keeper.Session, error) {
	switch bracket {
	case activities.Native:
		return pg.OpenNative(ctx, conninfo)
	case activities.Exclusive:
		return pg.OpenExclusive(ctx, conninfo)
	}
	return pg.OpenSession(ctx, conninfo)
}

// servers reads the configuration anew for each question. A file that breaks
// meanwhile leaves the last good one in force; so do errors that disable a
// server, for that server.
type servers struct {
	path string

	mu   sync.Mutex
	last *config.Config
	good map[string]*config.Server
}

func (p *process) servers() activities.Servers {
	return &servers{path: p.path, good: map[string]*config.Server{}}
}

// Server returns the settings of a server that can be used.
func (s *servers) Server(name string) (*config.Server, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	cfg, err := config.Load(s.path)
	if err == nil {
		s.last = cfg
	} else if s.last == nil {
		return nil, err
	}
	server, err := s.last.Server(name)
	if err == nil {
		s.good[name] = server
	} else if old := s.good[name]; old != nil && fault.Is(err, fault.Config) {
		slog.Warn("the configuration of a server is broken; the last good one stays in force", "server", name, "error", err)
		return old, nil
	}
	return server, err
}
