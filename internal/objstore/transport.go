package objstore

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net/http"
	"sync"
	"time"
)

// quietDefault is how long the other end may be silent.
const quietDefault = time.Minute

// idlePerHost is how many connections to a store are kept for whoever comes next.
const idlePerHost = 64

// Client is an HTTP client that counts and limits what passes, and ends a request
// when nothing has moved for a time; 0 is a minute. It follows no redirect. A server is
// known by roots, or by those of the system when they are nil.
func (p *Policy) Client(roots *x509.CertPool, quiet time.Duration) *http.Client {
	if quiet <= 0 {
		quiet = quietDefault
	}
	return &http.Client{
		Transport:     &transport{trusting(roots), p, quiet},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// bases are the transports of this process. Every activity opens its stores anew, and finds
// the connections of the ones before.
var bases struct {
	sync.Mutex
	list []*http.Transport
}

// trusting is the transport that knows servers by some certificates.
func trusting(roots *x509.CertPool) *http.Transport {
	bases.Lock()
	defer bases.Unlock()
	for _, t := range bases.list {
		if roots.Equal(t.TLSClientConfig.RootCAs) {
			return t
		}
	}
	t := http.DefaultTransport.(*http.Transport).Clone() //nolint:forcetypeassert // the library's
	t.TLSClientConfig = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	t.MaxIdleConnsPerHost = idlePerHost
	t.DisableCompression = true // objects are passed as they are
	bases.list = append(bases.list, t)
	return t
}

type transport struct {
	base  http.RoundTripper
	p     *Policy
	quiet time.Duration
}

// RoundTrip implements http.RoundTripper.
func (t *transport) RoundTrip(req *http.Request) (*http.Response, error) {
	t.p.Counts.Requests.Add(1)
	ctx, cancel := context.WithCancelCause(req.Context())
	w := &watch{time.AfterFunc(t.quiet, func() { cancel(errQuiet) }), t.quiet}
	out := req.Clone(ctx)
	if req.Body != nil && req.Body != http.NoBody {
		out.Body = &passing{ReadCloser: req.Body, t: t, ctx: ctx, watch: w}
		if again := req.GetBody; again != nil {
			out.GetBody = func() (io.ReadCloser, error) {
				body, err := again()
				return &passing{ReadCloser: body, t: t, ctx: ctx, watch: w}, err
			}
		}
	}
	resp, err := t.base.RoundTrip(out)
	w.Stop()
	if err != nil {
		if errors.Is(context.Cause(ctx), errQuiet) {
			err = errQuiet
		}
		cancel(nil)
		return nil, err
	}
	resp.Body = &passing{ReadCloser: resp.Body, t: t, ctx: ctx, watch: w, incoming: true, done: func() { cancel(nil) }}
	return resp, nil
}

// watch is the timer of one request. It runs while we wait for the other end, and
// not while the other end waits for us.
type watch struct {
	*time.Timer
	quiet time.Duration
}

func (w *watch) on() { w.Reset(w.quiet) }

// passing is a body that is counted and limited.
type passing struct {
	io.ReadCloser
	t        *transport
	ctx      context.Context
	watch    *watch
	incoming bool
	done     func()
}

// piece is how much of a body passes at once, so that a limit is kept smoothly.
const piece = 64 << 10

// Read implements io.Reader.
func (b *passing) Read(buf []byte) (int, error) {
	if b.t.p.Limit != nil && len(buf) > piece {
		buf = buf[:piece]
	}
	if b.incoming {
		b.watch.on()
	} else {
		b.watch.Stop()
	}
	n, err := b.ReadCloser.Read(buf)
	b.watch.Stop()
	if b.incoming {
		b.t.p.Counts.Received.Add(int64(n))
		if err != nil && !errors.Is(err, io.EOF) && errors.Is(context.Cause(b.ctx), errQuiet) {
			err = errQuiet
		}
	} else {
		b.t.p.Counts.Sent.Add(int64(n))
	}
	if werr := b.t.p.Limit.Wait(b.ctx, n); werr != nil && (err == nil || errors.Is(err, io.EOF)) {
		err = werr
	}
	if !b.incoming {
		b.watch.on()
	}
	return n, err
}

// Close implements io.Closer.
func (b *passing) Close() error {
	b.watch.Stop()
	err := b.ReadCloser.Close()
	if b.done != nil {
		b.done()
	} else {
		b.watch.on() // the answer is awaited
	}
	return err
}
