package doctor

import (
	"context"
	"fmt"
	"time"

	"github.com/holdfast-pg/holdfast/internal/command"
	"github.com/holdfast-pg/holdfast/internal/exclusive"
	"github.com/holdfast-pg/holdfast/internal/keeper"
	"github.com/holdfast-pg/holdfast/internal/postgres"
)

// sessions looks for sessions in PostgreSQL whose program is gone. PostgreSQL
// notices the end of a program by itself, but not that of its host or network.
func (c *chart) sessions(ctx context.Context) error {
	if c.Server == nil {
		return nil
	}
	clients, err := c.Server.Clients(ctx, c.Applications)
	if err != nil || len(clients) == 0 {
		return err
	}
	for _, client := range clients {
		v, err := c.client(ctx, client)
		if err != nil {
			return err
		}
		subject := fmt.Sprintf("%d (%s, %s) in PostgreSQL, since %s", client.PID, client.Application, client.Backend, client.Since.Format(time.RFC3339))
		if client.Slot != "" {
			subject += ", with the temporary replication slot " + client.Slot
		}
		c.found(Session, subject, v, func(ctx context.Context) error {
			if v, err := c.client(ctx, client); err != nil || v.proof == "" {
				return orChanged(err, subject, v)
			}
			return c.Server.Terminate(ctx, client)
		})
	}
	return nil
}

// client judges a session by the records of keepers, then by the connections of
// this host.
func (d *Doctor) client(ctx context.Context, p postgres.Client) (verdict, error) {
	records, err := keeper.Records(d.StateDir)
	if err != nil {
		return verdict{}, err
	}
	for _, r := range records {
		if r.BackendPID != p.PID || r.Begun.Before(p.Since) {
			continue
		}
		if r.KeeperAlive() {
			return verdict{owned: true}, nil
		}
		if r.Boot == command.BootID() {
			return verdict{proof: fmt.Sprintf("process %d, which held it, has ended", r.PID)}, nil
		}
	}
	if p.Addr == "" {
		return verdict{owned: true}, nil // a local socket lives as long as its program
	}
	here, err := d.Server.Address(ctx)
	if err != nil {
		return verdict{}, err
	}
	if here == "" || here != p.Addr {
		return verdict{doubt: fmt.Sprintf("its program runs at %s, where it cannot be looked for from here", p.Addr)}, nil
	}
	held, err := portHeld(p.Port)
	if err != nil {
		return verdict{}, err
	}
	if held {
		return verdict{owned: true}, nil
	}
	return verdict{proof: fmt.Sprintf("it comes from port %d of this host (%s), where no process has a connection", p.Port, p.Addr)}, nil
}

// mode looks for an exclusive backup that the server is in and that was begun by
// us. One of somebody else is not our business.
func (c *chart) mode(ctx context.Context) error {
	if c.Server == nil {
		return nil
	}
	b, err := exclusive.Find(ctx, c.Server, c.Catalog)
	if err != nil || b == nil || b.ID == "" {
		return err
	}
	v, err := c.runOf(b)
	if err != nil {
		return err
	}
	subject := fmt.Sprintf("of PostgreSQL, entered for backup %s", b.ID)
	c.found(Mode, subject, v, func(ctx context.Context) error {
		if v, err := c.runOf(b); err != nil || v.proof == "" {
			return orChanged(err, subject, v)
		}
		_, err := c.Server.StopExclusive(ctx, b.Label)
		return err
	})
	return nil
}

// runOf judges an exclusive backup by the workflow run that began it.
func (d *Doctor) runOf(b *exclusive.Backup) (verdict, error) {
	v := d.stillRuns(b.Owner)
	if v.proof == "" {
		return v, nil
	}
	// An engine that was asked in error knows nothing of any run.
	by, err := d.backupLock()
	if by != "" {
		v = verdict{doubt: fmt.Sprintf("%s, but somebody has the server's backup lock: %s", v.proof, by)}
	}
	return v, err
}

// records looks for what keepers that are gone have written down of sessions.
func (c *chart) records(context.Context) error {
	records, err := keeper.Records(c.StateDir)
	if err != nil {
		return err
	}
	for _, r := range records {
		if r.Server != c.Catalog.Server {
			continue
		}
		v, err := c.record(r)
		if err != nil {
			return err
		}
		c.found(Record, fmt.Sprintf("%s of keeper process %d", r.Epoch, r.PID), v, func(context.Context) error {
			if v, err := c.record(r); err != nil || v.proof == "" {
				return orChanged(err, r.Epoch, v)
			}
			return keeper.Forget(c.StateDir, r.Epoch)
		})
	}
	return nil
}

// record judges a session's record. A run that goes on may still ask for it.
func (c *chart) record(r keeper.Record) (verdict, error) {
	if r.KeeperAlive() {
		return verdict{owned: true}, nil
	}
	for id := range c.backups {
		extra, err := c.Catalog.Extra(id)
		if err != nil {
			return verdict{}, err
		}
		if extra.RunID == r.RunID {
			v, err := c.writer(id)
			if v.proof != "" && r.Boot == command.BootID() {
				v.proof = fmt.Sprintf("process %d has ended, and %s", r.PID, v.proof)
			}
			return v, err
		}
	}
	return c.stillRuns(r.Owner), nil
}
