package main

import (
	"context"
	"time"

	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/internal/pg"
	"github.com/holdfast-pg/holdfast/internal/walreceive"
)

const (
	tendEvery = time.Second
	// slotWithin is how long a server may take to make a replication slot.
	slotWithin = 15 * time.Second
)

// keepReceivers keeps pg_receivewal running for each server whose WAL is
// streamed, until ctx ends; what runs then goes on. It needs no engine. A
// configuration that breaks leaves the last good one in force.
func (p *process) keepReceivers(ctx context.Context) {
	tender := &walreceive.Tender{StateDir: p.global.HoldfastStateDirectory, Slots: ensureSlot, Log: p.log}
	var servers []*config.Server
	tick := time.NewTicker(tendEvery)
	defer tick.Stop()
	for {
		cfg, err := config.Load(p.path)
		switch {
		case err == nil:
			servers = cfg.Servers()
		case servers == nil:
			p.log.Error("the configuration cannot be read", "error", err)
		}
		if servers != nil {
			tender.Tend(ctx, time.Now(), servers)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// ensureSlot makes the replication slot of a server's settings unless it exists.
func ensureSlot(ctx context.Context, s *config.Server) error {
	ctx, cancel := context.WithTimeout(ctx, slotWithin)
	defer cancel()
	sql, streaming := s.WALSource()
	return pg.EnsureSlot(ctx, sql.Reveal(), streaming.Reveal(), s.SlotName)
}
