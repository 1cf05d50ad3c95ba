package objstore_test

import (
	"hash/crc32"
	"testing"

	"github.com/holdfast-pg/holdfast/internal/objstore"
)

func TestPartsCRC32C(t *testing.T) {
	data := make([]byte, 100000)
	for i := range data {
		data[i] = byte(i * i >> 3)
	}
	for _, cuts := range [][]int{{}, {0}, {1}, {99999}, {1, 2, 3, 50000}, {0, 0, 70000, 100000}} {
		var parts []objstore.Part
		from := 0
		for _, to := range append(cuts, len(data)) {
			crc := crc32.Checksum(data[from:to], objstore.Castagnoli)
			parts = append(parts, objstore.Part{Size: int64(to - from), CRC32C: &crc})
			from = to
		}
		if got := objstore.PartsCRC32C(parts); got == nil || *got != crc32.Checksum(data, objstore.Castagnoli) {
			t.Errorf("cut at %v: %v", cuts, got)
		}
	}
	if got := objstore.PartsCRC32C([]objstore.Part{{Size: 1}}); got != nil {
		t.Errorf("a part without a checksum: %d", *got)
	}
	for _, text := range []string{"", "AAA=", "AAAAAAA=", "*"} {
		if crc := objstore.DecodeCRC32C(text); crc != nil {
			t.Errorf("%q: %d", text, *crc)
		}
	}
	if crc := objstore.DecodeCRC32C(objstore.EncodeCRC32C(0xfeed1234)); crc == nil || *crc != 0xfeed1234 {
		t.Error("a checksum is written and read as another one")
	}
}
