package pgtest

import (
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
)

var ports struct {
	mu   sync.Mutex
	used map[int]bool
}

// FreePort returns a port on loopback that nobody listens on and that this process has not been
// given before. It lies below the range from which the kernel gives ports to outgoing connections,
// one of which could take it before the server does.
func FreePort(t testing.TB) int {
	t.Helper()
	const lowest, count = 12000, 18000
	ports.mu.Lock()
	defer ports.mu.Unlock()
	if ports.used == nil {
		ports.used = map[int]bool{}
	}
	for range count {
		port := lowest + rand.IntN(count)
		if ports.used[port] {
			continue
		}
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			continue
		}
		must(t, l.Close())
		ports.used[port] = true
		return port
	}
	t.Fatal("no port is free")
	return 0
}
