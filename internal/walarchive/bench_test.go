package walarchive_test

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/holdfast-pg/holdfast/internal/atomicfile"
)

// BenchmarkArchive compares archiving a segment of 16 MiB with what cp and
// fsync of file and directory cost. They take turns on the same disk.
func BenchmarkArchive(b *testing.B) {
	const size = 16 << 20
	for _, compression := range []string{"none", "lz4", "zstd", "gzip"} {
		b.Run(compression, func(b *testing.B) {
			bench := newBench(b, compression, size)
			b.SetBytes(size)
			for i := 0; b.Loop(); i++ {
				b.StopTimer()
				name := fmt.Sprintf("0000000100000000%08X", i%256)
				path := bench.write(b, name, segment(b, name, size, name))
				if _, err := bench.Delete(b.Context(), []string{name}); err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
				if err := bench.Archive.Archive(b.Context(), path, name); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("cp-and-fsync", func(b *testing.B) {
		bench := newBench(b, "", size)
		b.SetBytes(size)
		for i := 0; b.Loop(); i++ {
			b.StopTimer()
			name := fmt.Sprintf("0000000100000000%08X", i%256)
			path, dest := bench.write(b, name, segment(b, name, size, name)), filepath.Join(bench.l.WALDir, name)
			os.Remove(dest)
			b.StartTimer()
			if err := copyAndSync(path, dest); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func copyAndSync(path, dest string) error {
	in, err := os.Open(path)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(dest)
	if err != nil {
		return err
	}
	defer out.Close()
	if _, err := io.Copy(out, in); err != nil {
		return err
	}
	if err := out.Sync(); err != nil {
		return err
	}
	return atomicfile.SyncDir(filepath.Dir(dest))
}
