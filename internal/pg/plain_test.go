package pg

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// cancelRequest is the code of what pgx may send on a connection of its own after one has failed.
var cancelRequest = binary.BigEndian.AppendUint32(nil, 80877102)

// TestWhyThereIsNoConnection: a server that declines TLS and then gives up is not blamed for the former.
func TestWhyThereIsNoConnection(t *testing.T) {
	for _, try := range []struct{ sslmode, want, not string }{
		{"prefer", "127.0.0.1", "refused TLS"},
		{"require", "server refused TLS connection", "EOF"},
	} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		accepted := make(chan int, 1)
		go func() {
			n := 0
			defer func() { accepted <- n }()
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				buf := make([]byte, 8)
				if _, err := io.ReadFull(c, buf); err == nil && !bytes.Equal(buf[4:], cancelRequest) {
					n++
					_, _ = c.Write([]byte{'N'})
					_, _ = c.Read(make([]byte, 1000))
				}
				c.Close()
			}
		}()
		_, port, _ := net.SplitHostPort(l.Addr().String())
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		_, err = connect(ctx, "host=127.0.0.1 user=u port="+port+" sslmode="+try.sslmode, "test", nil)
		cancel()
		l.Close()
		if err == nil || !strings.Contains(err.Error(), try.want) || strings.Contains(err.Error(), try.not) {
			t.Errorf("%s: %v", try.sslmode, err)
		}
		if n := <-accepted; n != 1 {
			t.Errorf("%s: %d connections", try.sslmode, n)
		}
	}
}
