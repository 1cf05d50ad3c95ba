package pg

import (
	"bytes"
	"context"
	"encoding/binary"
	"net"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// plainly lets one attempt to connect go on without TLS on the connection on which the server has
// declined it (PostgreSQL manual, "Message Flow", "SSL Session Encryption"), as libpq does. pgx dials
// a second time instead, and each connection costs the server a process.
type plainly struct {
	dial pgconn.DialFunc

	mu       sync.Mutex
	over     bool
	declined map[string]net.Conn // by address
}

// sslRequest is what a client sends that prefers TLS.
var sslRequest = binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, 8), 80877103)

// Dial takes a connection that was kept, or makes one.
func (p *plainly) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	p.mu.Lock()
	kept, over := p.declined[address], p.over
	delete(p.declined, address)
	p.mu.Unlock()
	if kept != nil && kept.SetDeadline(time.Time{}) == nil {
		return kept, nil
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
	for _, conn := range p.declined {
		_ = conn.Close()
	}
	p.declined = nil
}

// asking is a connection on which TLS may be asked for.
type asking struct {
	net.Conn
	address         string
	of              *plainly
	asked, declined bool
}

func (a *asking) Write(b []byte) (int, error) {
	a.asked, a.declined = bytes.Equal(b, sslRequest), false
	return a.Conn.Write(b)
}

func (a *asking) Read(b []byte) (int, error) {
	n, err := a.Conn.Read(b)
	a.declined = a.asked && n == 1 && b[0] == 'N'
	a.asked = false
	return n, err
}

// Close keeps a connection on which nothing was said since TLS was declined.
func (a *asking) Close() error {
	a.of.mu.Lock()
	defer a.of.mu.Unlock()
	if !a.declined || a.of.over || a.of.declined[a.address] != nil {
		return a.Conn.Close()
	}
	if a.of.declined == nil {
		a.of.declined = map[string]net.Conn{}
	}
	a.of.declined[a.address] = a.Conn
	return nil
}
