//go:build integration

package frame_test

import (
	"crypto/sha256"
	"encoding/hex"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-pg/holdfast/internal/barmantest"
	"github.com/holdfast-pg/holdfast/internal/pgtest"
)

// firstFrame prints the hash of the first frame of each file, as Barman's libraries
// read it, and fails when anything follows it.
const firstFrame = `
import bz2, hashlib, sys, zlib
import lz4.frame, snappy.snappy, zstandard

# That of Debian's python3-snappy crashes, also with streams of its own.
def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc = table[(crc ^ byte) & 255] ^ crc >> 8
    return crc ^ 0xFFFFFFFF
def entry(crc):
    for _ in range(8):
        crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc
table = [entry(i) for i in range(256)]
snappy.snappy._crc32c = crc32c

decompressors = {"gz": lambda: zlib.decompressobj(31), "bz2": bz2.BZ2Decompressor, "lz4": lz4.frame.LZ4FrameDecompressor,
                 "zst": lambda: zstandard.ZstdDecompressor().decompressobj()}
for path in sys.argv[1:]:
    data, kind = open(path, "rb").read(), path.rsplit(".", 1)[1]
    if kind == "snappy":
        d = snappy.StreamDecompressor()
        content = d.decompress(data)
        d.flush()
    else:
        d = decompressors[kind]()
        content = d.decompress(data)
        assert d.eof and not d.unused_data, path
    print(hashlib.sha256(content).hexdigest())
`

// TestBarmanReadsOneFrame, with the libraries that its restore uses.
func TestBarmanReadsOneFrame(t *testing.T) {
	data := mixed(9_000_000, 1)
	segments := cut(data, rand.New(rand.NewPCG(3, 3)), 4_000_000)
	dir := pgtest.Dir(t)
	args := []string{"python3", "-c", firstFrame}
	for _, algorithm := range algorithms[1:] {
		c := open(t, algorithm, "")
		args = append(args, filepath.Join(dir, "stream"+c.Suffix()))
		if err := os.WriteFile(args[len(args)-1], write(t, c, segments), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	r := barmantest.Run(t, []string{dir}, 0, args...)
	hash := sha256.Sum256(data)
	if want := strings.Repeat(hex.EncodeToString(hash[:])+"\n", len(algorithms)-1); r.Exit != 0 || r.Stdout != want {
		t.Errorf("exit %d\n%s%s\nnot\n%s", r.Exit, r.Stdout, r.Stderr, want)
	}
}
