// Package pylit reads and writes the Python literals that Barman keeps in
// backup.info: strings, numbers, None, True, False, tuples, lists and dicts
// (Python Language Reference, "Literals"; output is that of repr). It
// evaluates nothing.
package pylit

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Kind is the type of a value.
type Kind int

// The kinds of values.
const (
	None Kind = iota
	Bool
	Int
	Float
	String
	List
	Tuple
	Dict
)

// Value is a Python value. Dicts keep their order.
type Value struct {
	Kind  Kind
	Bool  bool
	Int   string // decimal digits with sign: Python's integers have no bound
	Float float64
	Str   string
	Items []Value // of lists and tuples
	Pairs []Pair  // of dicts
}

// Pair is an entry of a dict.
type Pair struct{ Key, Value Value }

// Str, I, F, L and D make values.
func Str(s string) Value         { return Value{Kind: String, Str: s} }
func I(n int64) Value            { return Value{Kind: Int, Int: strconv.FormatInt(n, 10)} }
func F(f float64) Value          { return Value{Kind: Float, Float: f} }
func L(items ...Value) Value     { return Value{Kind: List, Items: items} }
func T(items ...Value) Value     { return Value{Kind: Tuple, Items: items} }
func D(pairs ...Pair) Value      { return Value{Kind: Dict, Pairs: pairs} }
func P(key string, v Value) Pair { return Pair{Str(key), v} }

// Get is the value of a string key of a dict.
func (v Value) Get(key string) (Value, bool) {
	for _, p := range v.Pairs {
		if p.Key.Kind == String && p.Key.Str == key {
			return p.Value, true
		}
	}
	return Value{}, false
}

// Int64 is an integer's value.
func (v Value) Int64() (int64, error) {
	if v.Kind != Int {
		return 0, fmt.Errorf("%s is no integer", v)
	}
	return strconv.ParseInt(v.Int, 10, 64)
}

// String is Python's repr.
func (v Value) String() string {
	var b strings.Builder
	v.write(&b)
	return b.String()
}

func (v Value) write(b *strings.Builder) {
	list := func(open, end string, items []Value) {
		b.WriteString(open)
		for i, it := range items {
			if i > 0 {
				b.WriteString(", ")
			}
			it.write(b)
		}
		b.WriteString(end)
	}
	switch v.Kind {
	case None:
		b.WriteString("None")
	case Bool:
		b.WriteString(map[bool]string{true: "True", false: "False"}[v.Bool])
	case Int:
		b.WriteString(v.Int)
	case Float:
		b.WriteString(FormatFloat(v.Float))
	case String:
		b.WriteString(Quote(v.Str))
	case List:
		list("[", "]", v.Items)
	case Tuple:
		end := ")"
		if len(v.Items) == 1 {
			end = ",)"
		}
		list("(", end, v.Items)
	case Dict:
		b.WriteByte('{')
		for i, p := range v.Pairs {
			if i > 0 {
				b.WriteString(", ")
			}
			p.Key.write(b)
			b.WriteString(": ")
			p.Value.write(b)
		}
		b.WriteByte('}')
	}
}

// FormatFloat is the repr of a float: the shortest text that reads back, with
// an exponent below 1e-4 and from 1e16 on.
func FormatFloat(f float64) string {
	switch {
	case math.IsNaN(f):
		return "nan"
	case math.IsInf(f, 1):
		return "inf"
	case math.IsInf(f, -1):
		return "-inf"
	}
	if a := math.Abs(f); a != 0 && (a < 1e-4 || a >= 1e16) {
		return strconv.FormatFloat(f, 'e', -1, 64)
	}
	s := strconv.FormatFloat(f, 'f', -1, 64)
	if !strings.Contains(s, ".") {
		s += ".0"
	}
	return s
}

// Quote is the repr of a string. Bytes that are not UTF-8 are written as Python
// shows undecodable ones (surrogate escapes, \udcXX).
func Quote(s string) string {
	q := byte('\'')
	if strings.Contains(s, "'") && !strings.Contains(s, `"`) {
		q = '"'
	}
	var b strings.Builder
	b.WriteByte(q)
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && n == 1:
			fmt.Fprintf(&b, `\udc%02x`, s[i])
		case r == rune(q) || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\t':
			b.WriteString(`\t`)
		case r == '\r':
			b.WriteString(`\r`)
		case r == ' ' || unicode.IsPrint(r):
			b.WriteRune(r)
		case r < 0x100:
			fmt.Fprintf(&b, `\x%02x`, r)
		case r < 0x10000:
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			fmt.Fprintf(&b, `\U%08x`, r)
		}
		i += n
	}
	b.WriteByte(q)
	return b.String()
}
