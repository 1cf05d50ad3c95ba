package pylit_test

import (
	"testing"

	"github.com/holdfast-pg/holdfast/internal/pylit"
)

func TestRoundTrip(t *testing.T) {
	for in, want := range map[string]string{
		`None`: "", `True`: "", `-12`: "", `123456789012345678901234567890`: "", `1.5`: "", `1e-05`: "", `0.0001`: "", `1e+16`: "", `100.0`: "",
		`'a\n'`: "", `"it's"`: "", `"a" 'b'`: `'ab'`, `'\x41\u00e9\U0001f600'`: `'Aé😀'`, `'\udcff'`: "", `'\x7f'`: "",
		`[]`: "", `()`: "", `(1,)`: "", `(1)`: "1", `[('ts1', 16384, '/srv/tbs')]`: "",
		`{'a': {'b': [1, 2.0, None]}, 'c': 'x',}`: `{'a': {'b': [1, 2.0, None]}, 'c': 'x'}`,
		`'both \' and "'`:                         "",
	} {
		if want == "" {
			want = in
		}
		v, err := pylit.Parse(in)
		if err != nil {
			t.Errorf("%s: %v", in, err)
			continue
		}
		if got := v.String(); got != want {
			t.Errorf("%s: got %s", in, got)
		}
	}
	for _, bad := range []string{"", "null", "true", "[1 2]", "{1}", "'a", `'\x4'`, "1 2", "__import__('os')", "{1: 2 3: 4}", "0x10", "nan"} {
		if v, err := pylit.Parse(bad); err == nil {
			t.Errorf("%q was read as %s", bad, v)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{`[('ts1', 16384, '/srv/tbs')]`, `{'a': 1e-05, "b": None}`, `'\u1234' "x"`, `(1,)`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		v, err := pylit.Parse(s)
		if err != nil {
			return
		}
		once := v.String()
		again, err := pylit.Parse(once)
		if err != nil || again.String() != once {
			t.Errorf("%q became %q, then %v (%v)", s, once, again, err)
		}
	})
}
