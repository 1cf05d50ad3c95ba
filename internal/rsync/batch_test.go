package rsync

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

const mib = 1 << 20

func TestCut(t *testing.T) {
	for name, tc := range map[string]struct {
		sizes []int64
		files int
		bytes int64
		want  string
	}{
		"nothing":               {nil, 3, mib, ""},
		"largest first":         {[]int64{8192, 3 * mib, mib}, 9, 9 * mib, "1 2 0"},
		"equal in listed order": {[]int64{5, 6, 7, 8}, 9, mib, "0 1 2 3"},
		"bounded in files":      {[]int64{1, 1, 1, 1, 1}, 2, mib, "0 1|2 3|4"},
		"bounded in bytes":      {[]int64{mib, mib, mib}, 9, 2 * mib, "0 1|2"},
		"large stands alone":    {[]int64{mib, 9 * mib, mib}, 9, 2 * mib, "1|0 2"},
		"empty files fill up":   {[]int64{0, 2 * mib, 0}, 9, 2 * mib, "1 0 2"},
		"larger than a key":     {[]int64{1 << 50, 1 << 51}, 9, 10 << 30, "0|1"},
	} {
		t.Run(name, func(t *testing.T) {
			var keys []key
			for i, size := range tc.sizes {
				keys = append(keys, newKey(size, int64(i)))
			}
			var parts []string
			for _, part := range cut(keys, tc.files, tc.bytes) {
				var numbers []string
				for _, k := range part {
					numbers = append(numbers, fmt.Sprint(k.at()))
				}
				parts = append(parts, strings.Join(numbers, " "))
			}
			assert.Equal(t, tc.want, strings.Join(parts, "|"))
		})
	}
}

func TestSharesAddUpToTheLimit(t *testing.T) {
	for _, tc := range []struct{ limit, jobs, want int }{{0, 3, 1}, {1000, 1, 1}, {1000, 3, 3}, {7, 4, 4}, {2, 8, 2}, {1, 8, 1}} {
		c := &copier{Job: Job{Jobs: tc.jobs, Trees: []Tree{{RateKB: tc.limit}, {}}}}
		jobs := c.streams(make([]batch, 100))
		if tc.limit > 0 {
			assert.Equal(t, tc.want, jobs)
		}
		sum := 0
		for job := range jobs {
			part := share(tc.limit, jobs, job)
			if tc.limit > 0 {
				assert.Positive(t, part, "no job is without a limit")
			}
			sum += part
		}
		assert.Equal(t, tc.limit, sum)
	}
}

func TestArguments(t *testing.T) {
	base := "--relative --no-implied-dirs --copy-links --perms --times --omit-dir-times --whole-file --modify-window=-1 --ignore-missing-args --stats --no-human-readable --temp-dir=/tmp/x"
	for want, tr := range map[string]transfer{
		base + " -- /s/./a /s/./-b c /d/":                                         {source: "/s", dest: "/d"},
		base + " --bwlimit=7 -- /s/./a /s/./-b c /d/":                             {source: "/s", dest: "/d", rateKB: 7},
		base + " --checksum --link-dest=/p -- /s/./a /s/./-b c /d/":               {source: "/s", dest: "/d", reference: "/p", link: true},
		base + " --checksum --copy-dest=/p -- /odd name/./a /odd name/./-b c /d/": {source: "/odd name", dest: "/d", reference: "/p"},
	} {
		args, stdin := here{}.address(tr.options("/tmp/x"), tr.source, []string{"a", "-b c"})
		assert.Equal(t, want, strings.Join(append(args, tr.dest+"/"), " "))
		assert.Empty(t, stdin)
		assert.NotContains(t, want, "--inplace")
	}
}

func TestNamesFitIntoArguments(t *testing.T) {
	var entries []entry
	for i := range 100 {
		entries = append(entries, entry{Rel: strings.Repeat("x", 40*i)})
	}
	var together []entry
	parts := here{}.parts("/source", entries)
	for _, part := range parts {
		var names []string
		for _, e := range part {
			names = append(names, e.Rel)
		}
		args, _ := here{}.address(transfer{source: "/source"}.options("/tmp/x"), "/source", names)
		assert.Less(t, len(strings.Join(args, " ")), maxArguments+512)
		together = append(together, part...)
	}
	assert.Equal(t, entries, together)
	assert.Len(t, parts, 3)
}
