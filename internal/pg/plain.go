package pg

import (
	"bytes"
	"context"
	"encoding/binary"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// plainly lets one attempt to connect go on without TLS on the connection on which the server has
// declined it (PostgreSQL manual, "Message Flow", "SSL Session Encryption"), as libpq does. pgx dials
// a second time instead, and each connection costs the server a process.
type plainly struct {
	dial pgconn.DialFunc

	mu   sync.Mutex
	over bool
	kept map[string]net.Conn // by address
}

// sslRequest is what a client sends that prefers TLS.
var sslRequest = binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, 8), 80877103)

// Dial takes a connection that was kept, or makes one.
func (p *plainly) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	p.mu.Lock()
	kept, over := p.kept[address], p.over
	delete(p.kept, address)
	p.mu.Unlock()
	if kept != nil {
		return kept, kept.SetDeadline(time.Time{}) // of the attempt that ended
	}
	conn, err := p.dial(ctx, network, address)
	if err != nil || over {
		return conn, err
	}
	return &asking{Conn: conn, address: address, of: p}, nil
}

// end closes what was kept and is not needed. What is dialled from then on is left alone.
func (p *plainly) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.over = true
	for _, conn := range p.kept {
		_ = conn.Close()
	}
	p.kept = nil
}

// asking is a connection on which TLS may be asked for, first of all.
type asking struct {
	net.Conn
	address string
	of      *plainly
	stage   atomic.Int32
}

// The stages of a connection: what comes behind the last one is none of our business.
const (
	silent int32 = iota
	asked
	declined
	inUse
)

func (a *asking) Write(b []byte) (int, error) {
	next := inUse
	if bytes.Equal(b, sslRequest) {
		next = asked
	}
	if !a.stage.CompareAndSwap(silent, next) {
		a.stage.Store(inUse)
	}
	return a.Conn.Write(b)
}

func (a *asking) Read(b []byte) (int, error) {
	n, err := a.Conn.Read(b)
	next := inUse
	if n == 1 && b[0] == 'N' {
		next = declined
	}
	a.stage.CompareAndSwap(asked, next)
	return n, err
}

// Close keeps a connection on which nothing was said since TLS was declined.
func (a *asking) Close() error {
	a.of.mu.Lock()
	defer a.of.mu.Unlock()
	if a.stage.Load() != declined || a.of.over || a.of.kept[a.address] != nil {
		return a.Conn.Close()
	}
	if a.of.kept == nil {
		a.of.kept = map[string]net.Conn{}
	}
	a.of.kept[a.address] = a.Conn
	return nil
}
