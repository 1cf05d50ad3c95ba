package rsync

import (
	"slices"
)

// A batch is one rsync process, and the work that a kill may cost: large enough
// that starting a process does not matter, small enough to be still cached
// when it is hashed.
const (
	batchFiles = 1500
	batchBytes = 256 << 20
	// batchSeconds bounds it where a bandwidth limit makes it slow.
	batchSeconds = 30
)

type batch struct {
	tree  int
	class class
	keys  []key
	pages int64
}

// cut divides files into batches, the largest files first. A file that is
// larger than a batch stands alone.
func cut(keys []key, files int, bytes int64) [][]key {
	slices.Sort(keys)
	var out [][]key
	var pages int64
	from := 0
	for i, k := range keys {
		if i > from && (i-from == files || (pages+k.pages())*pageSize > bytes) {
			out = append(out, keys[from:i])
			from, pages = i, 0
		}
		pages += k.pages()
	}
	if from < len(keys) {
		out = append(out, keys[from:])
	}
	return out
}

// batches are what is to be copied, the largest first, so that no job is left
// alone with much work at the end.
func (c *copier) batches() []batch {
	var out []batch
	for tree, classes := range c.listing.keys {
		limit := int64(batchBytes)
		if rate := c.Trees[tree].RateKB; rate > 0 {
			limit = min(limit, int64(rate)<<10*batchSeconds/int64(max(1, c.Jobs)))
		}
		for cl, keys := range classes {
			for _, part := range cut(keys, batchFiles, limit) {
				b := batch{tree: tree, class: class(cl), keys: part}
				for _, k := range part {
					b.pages += k.pages()
				}
				out = append(out, b)
			}
		}
	}
	slices.SortStableFunc(out, func(a, b batch) int {
		switch {
		case a.pages > b.pages:
			return -1
		case a.pages < b.pages:
			return 1
		}
		return 0
	})
	return out
}

// share is a job's part of a limit that holds for all jobs together; 0 for no limit.
func share(limit, jobs, job int) int {
	part := limit / jobs
	if job < limit%jobs {
		part++
	}
	return part
}

// streams is how many batches are copied at the same time: no more than there
// are, and no more than can have a part of each limit.
func (c *copier) streams(batches []batch) int {
	n := min(c.Jobs, len(batches))
	for _, t := range c.Trees {
		if t.RateKB > 0 {
			n = min(n, t.RateKB)
		}
	}
	return max(1, n)
}
