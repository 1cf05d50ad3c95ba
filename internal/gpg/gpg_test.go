package gpg

import "testing"

func TestDetect(t *testing.T) {
	for name, c := range map[string]struct {
		head string
		want bool
	}{
		"cv25519":           {"\x84\x5e\x03\x12\x34", true},
		"rsa":               {"\x85\x01\x0c\x03\xaa", true},
		"new format, short": {"\xc1\xbf\x03\xaa\xaa", true},
		"new format, long":  {"\xc1\xc0\x4d\x03\xaa", true},
		"version 6":         {"\xc1\xbf\x06\xaa\xaa", true},
		"version 4":         {"\x84\x5e\x04\x12\x34", false},
		"zstd":              {"\x28\xb5\x2f\xfd\x03", false},
		"gzip":              {"\x1f\x8b\x08\x03\x03", false},
		"WAL of 18":         {"\x18\xd1\x07\x00\x01", false},
		"history":           {"1\t0/300", false},
		"short":             {"\x84\x5e\x03", false},
		"empty":             {"", false},
	} {
		if got := Detect([]byte(c.head)); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestNobodysKeys(t *testing.T) {
	var none *Keys
	if none.Encrypts() || nobodys.Encrypts() {
		t.Error("they encrypt")
	}
}
