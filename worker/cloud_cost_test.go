//go:build integration

package main

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/holdfast-pg/holdfast/internal/objstore"
	"github.com/holdfast-pg/holdfast/internal/volumes"
)

// bill is how many requests a backup takes at most, in the two classes that S3 has prices for.
type bill struct {
	writes int64 // PUT, COPY, POST and LIST
	reads  int64 // GET and HEAD
}

// List prices of S3 Standard in us-east-1, in dollars, as they were published in 2025.
const (
	pricesOf     = "2025"
	perWrite     = 0.005 / 1000
	perRead      = 0.0004 / 1000
	perGigaMonth = 0.023 // for the first 50 TB
)

// around is what a backup takes beside its volumes, at most: its record at each change of status, the
// archives of directories, locks, and what was there before.
const around = 60

// pages is how many requests list some keys.
func pages(keys int) int64 { return int64(keys)/1000 + 1 }

// firstBill is that of a backup out of nothing, of content that compresses by a factor.
func firstBill(p *volumes.Plan, factor int64) bill {
	b := bill{writes: around + 2*pages(len(p.Volumes)), reads: around + 2*int64(len(p.Volumes))} // for the checksum, and at the end
	for _, v := range p.Volumes {
		parts := 0
		for left := v.Size() / factor; left > 0; left -= objstore.PartSize(0, parts) {
			parts++
		}
		if parts > 1 {
			parts += 2 // to begin and to end
		}
		b.writes += int64(parts)
	}
	return b
}

// unchangedBill is that of a backup whose volumes are all copied by the store, of less than 5 GB each. The
// source is looked at, the copy, its checksum, and all once more at the end.
func unchangedBill(p *volumes.Plan) bill {
	n := int64(len(p.Volumes))
	return bill{writes: around + 2*pages(len(p.Volumes)) + n, reads: around + 4*n}
}

// counted counts the requests from now on.
func (c *cloud) counted() (count func() bill) {
	var writes, reads atomic.Int64
	c.mu.Lock()
	defer c.mu.Unlock()
	c.fault = func(_ http.ResponseWriter, r *http.Request) bool {
		q := r.URL.Query()
		switch {
		case r.Method == http.MethodDelete: // costs nothing
		case r.Method == http.MethodPut, r.Method == http.MethodPost, q.Has("list-type"), q.Has("uploads"):
			writes.Add(1)
		default:
			reads.Add(1)
		}
		return false
	}
	return func() bill { return bill{writes.Load(), reads.Load()} }
}

// within compares what was counted with what was computed.
func (b bill) within(t *testing.T, computed bill) {
	t.Helper()
	t.Logf("%+v of %+v", b, computed)
	if b.writes > computed.writes || b.reads > computed.reads {
		t.Errorf("it took %+v requests, and %+v were computed", b, computed)
	}
}

// terabytes is the plan of a cluster of large tables.
func terabytes(n int) *volumes.Plan {
	tree := volumes.Tree{Name: volumes.DataTree}
	for i := range n << 10 {
		tree.Files = append(tree.Files, volumes.File{Path: fmt.Sprintf("base/5/16384.%05d", i), Size: 1 << 30})
	}
	return volumes.Cut([]volumes.Tree{tree}, volumes.Limit(0, 1<<40, tree.Size(), nil), nil)
}

// costTable is the part of the manual that is computed.
func costTable() string {
	var s strings.Builder
	s.WriteString("| cluster | backup | archives | sent | PUT, COPY, LIST | GET, HEAD | requests | a month of it | history |\n|---|---|---|---|---|---|---|---|---|\n")
	for _, n := range []int{1, 10} {
		p := terabytes(n)
		for _, unchanged := range []bool{false, true} {
			name, sent, b := "first", fmt.Sprintf("%.1f TB", float64(n)/2), firstBill(p, 2)
			if unchanged {
				name, sent, b = "unchanged", "0", unchangedBill(p)
			}
			fmt.Fprintf(&s, "| %d TB | %s | %d | %s | %d | %d | $%.2f | $%.2f | < %d KB |\n", n, name, len(p.Volumes), sent, b.writes, b.reads,
				float64(b.writes)*perWrite+float64(b.reads)*perRead, float64(n)*1024/2*perGigaMonth, hugeHistory>>10)
		}
	}
	return s.String()
}

// TestCostTable: the manual's table is what the code would do. HOLDFAST_COSTS=write writes it.
func TestCostTable(t *testing.T) {
	t.Parallel()
	page := filepath.Join("..", "docs", "local-to-cloud.md")
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	const begin, end = "<!-- computed -->\n", "<!-- /computed -->\n"
	before, rest, found := strings.Cut(string(text), begin)
	was, after, ended := strings.Cut(rest, end)
	if !found || !ended {
		t.Fatal("the page has no place for the table")
	}
	if !strings.Contains(before, "in "+pricesOf) {
		t.Errorf("the page does not say that the prices are those of %s", pricesOf)
	}
	table := costTable()
	if os.Getenv("HOLDFAST_COSTS") == "write" {
		if err := os.WriteFile(page, []byte(before+begin+table+end+after), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if was != table {
		t.Errorf("the page is not what the code does; HOLDFAST_COSTS=write writes it anew:\n%s", table)
	}
}
