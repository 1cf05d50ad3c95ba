package cloudcopy

import (
	"crypto/md5"
	"fmt"
	"strings"
	"testing"
)

// BenchmarkCopy copies 256 MB of rows into a directory.
func BenchmarkCopy(b *testing.B) {
	f := newBench(b)
	var rows strings.Builder
	for i := 0; rows.Len() < 64<<20; i++ {
		sum := md5.Sum(fmt.Append(nil, i))
		fmt.Fprintf(&rows, "%08d %s", i, strings.Repeat(fmt.Sprintf("%x", sum), 8))
	}
	for i := range 4 {
		f.put(fmt.Sprintf("base/5/%d", 30000+i), rows.String())
	}
	b.SetBytes(256 << 20)
	for n := 0; b.Loop(); n++ {
		job := f.job(fmt.Sprint(n), 1)
		job.VolumeSize = 256 << 20
		if _, err := Copy(b.Context(), job); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		for o, err := range f.store.List(b.Context(), job.Base) {
			if err == nil {
				err = f.store.Delete(b.Context(), o.Key)
			}
			if err != nil {
				b.Fatal(err)
			}
		}
		b.StartTimer()
	}
}
