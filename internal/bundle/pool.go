package bundle

import "sync"

// Pool keeps the buffers of an object for the next ones. Those of many objects of one copy
// would be garbage that waits for its collection, and new memory that the kernel must clear.
// The zero value is empty, a nil one keeps nothing. It is safe for concurrent use.
type Pool struct {
	mu          sync.Mutex
	runs, parts [][]byte
}

func (p *Pool) run() []byte {
	if p == nil {
		return nil
	}
	return p.take(&p.runs)
}

func (p *Pool) part() []byte {
	if p == nil {
		return nil
	}
	return p.take(&p.parts)
}

func (p *Pool) giveRun(b []byte) {
	if p != nil {
		p.give(&p.runs, b)
	}
}

func (p *Pool) givePart(b []byte) {
	if p != nil {
		p.give(&p.parts, b)
	}
}

func (p *Pool) take(from *[][]byte) []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := len(*from)
	if n == 0 {
		return nil
	}
	b := (*from)[n-1]
	*from = (*from)[:n-1]
	return b
}

func (p *Pool) give(to *[][]byte, b []byte) {
	if cap(b) == 0 {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	*to = append(*to, b[:0])
}
