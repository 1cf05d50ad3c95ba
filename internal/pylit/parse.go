package pylit

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// maxDepth bounds nesting, so that no input exhausts the stack.
const maxDepth = 100

// Parse reads one literal.
func Parse(s string) (Value, error) {
	p := &parser{s: s}
	p.blanks()
	v, err := p.value(0)
	if err != nil {
		return Value{}, err
	}
	p.blanks()
	if p.i < len(p.s) {
		return Value{}, p.errorf("there is more after the value")
	}
	return v, nil
}

type parser struct {
	s string
	i int
}

func (p *parser) errorf(format string, args ...any) error {
	//nolint:staticcheck // Python is a name.
	return fmt.Errorf("Python literal, character %d: %s", p.i+1, fmt.Sprintf(format, args...))
}

func (p *parser) blanks() {
	for p.i < len(p.s) && strings.IndexByte(" \t\r\n", p.s[p.i]) >= 0 {
		p.i++
	}
}

func (p *parser) peek() byte {
	if p.i < len(p.s) {
		return p.s[p.i]
	}
	return 0
}

func (p *parser) value(depth int) (Value, error) {
	if depth > maxDepth {
		return Value{}, p.errorf("it is nested too deeply")
	}
	switch c := p.peek(); {
	case c == '\'' || c == '"':
		s, err := p.str()
		return Str(s), err
	case c == '[':
		items, _, err := p.items(']', depth)
		return Value{Kind: List, Items: items}, err
	case c == '(':
		items, comma, err := p.items(')', depth)
		if err == nil && len(items) == 1 && !comma {
			return items[0], nil
		}
		return Value{Kind: Tuple, Items: items}, err
	case c == '{':
		return p.dict(depth)
	}
	start := p.i
	for p.i < len(p.s) && strings.IndexByte(" \t\r\n,:)]}", p.s[p.i]) < 0 {
		p.i++
	}
	return p.word(p.s[start:p.i])
}

func (p *parser) word(w string) (Value, error) {
	switch w {
	case "None":
		return Value{}, nil
	case "True", "False":
		return Value{Kind: Bool, Bool: w == "True"}, nil
	}
	digits := strings.TrimPrefix(strings.TrimPrefix(w, "-"), "+")
	if digits != "" && strings.Trim(digits, "0123456789") == "" {
		return Value{Kind: Int, Int: strings.TrimPrefix(w, "+")}, nil
	}
	if digits != "" && strings.Trim(digits, "0123456789.eE+-") == "" {
		if f, err := strconv.ParseFloat(w, 64); err == nil {
			return F(f), nil
		}
	}
	return Value{}, p.errorf("%q is no literal", w)
}

func (p *parser) items(end byte, depth int) (items []Value, comma bool, err error) {
	p.i++
	for {
		p.blanks()
		if p.peek() == end {
			p.i++
			return items, comma, nil
		}
		if len(items) > 0 && !comma {
			return nil, false, p.errorf("a comma or %q is missing", end)
		}
		v, err := p.value(depth + 1)
		if err != nil {
			return nil, false, err
		}
		if items == nil {
			items = make([]Value, 0, 3) // a tablespace is a tuple of three
		}
		items = append(items, v)
		p.blanks()
		if comma = p.peek() == ','; comma {
			p.i++
		}
	}
}

func (p *parser) dict(depth int) (Value, error) {
	d := Value{Kind: Dict}
	p.i++
	comma := true
	for {
		p.blanks()
		if p.peek() == '}' {
			p.i++
			return d, nil
		}
		if !comma {
			return d, p.errorf("a comma or '}' is missing")
		}
		k, err := p.value(depth + 1)
		if err != nil {
			return d, err
		}
		p.blanks()
		if p.peek() != ':' {
			return d, p.errorf("a colon is missing")
		}
		p.i++
		p.blanks()
		v, err := p.value(depth + 1)
		if err != nil {
			return d, err
		}
		d.Pairs = append(d.Pairs, Pair{k, v})
		p.blanks()
		if comma = p.peek() == ','; comma {
			p.i++
		}
	}
}

// str reads a quoted string, and those that follow it, as Python joins them.
func (p *parser) str() (string, error) {
	whole, err := p.quoted()
	if err != nil || !p.another() {
		return whole, err
	}
	parts := []string{whole}
	for p.another() {
		part, err := p.quoted()
		if err != nil {
			return "", err
		}
		parts = append(parts, part)
	}
	return strings.Join(parts, ""), nil
}

// another passes over the blanks before a further string, if one follows.
func (p *parser) another() bool {
	at := p.i
	p.blanks()
	if c := p.peek(); c == '\'' || c == '"' {
		return true
	}
	p.i = at
	return false
}

// quoted reads one quoted string. What has no escapes is not copied.
func (p *parser) quoted() (string, error) {
	stop := p.s[p.i:p.i+1] + `\`
	p.i++
	var b strings.Builder
	for {
		n := strings.IndexAny(p.s[p.i:], stop)
		if n < 0 {
			p.i = len(p.s)
			return "", p.errorf("the closing quote is missing")
		}
		run := p.s[p.i : p.i+n]
		p.i += n + 1
		if p.s[p.i-1] != '\\' {
			if b.Len() == 0 {
				return run, nil
			}
			b.WriteString(run)
			return b.String(), nil
		}
		if b.Len() == 0 {
			b.Grow(n + max(0, strings.IndexByte(p.s[p.i:], stop[0])))
		}
		b.WriteString(run)
		if err := p.escape(&b); err != nil {
			return "", err
		}
	}
}

// escapes[i] is what escaped[i] stands for after a backslash.
const (
	escaped = `ntr\'"abfv0`
	escapes = "\n\t\r\\'\"\a\b\f\v\x00"
)

func (p *parser) escape(b *strings.Builder) error {
	if p.i >= len(p.s) {
		return p.errorf("the closing quote is missing")
	}
	c := p.s[p.i]
	p.i++
	if i := strings.IndexByte(escaped, c); i >= 0 {
		b.WriteByte(escapes[i])
		return nil
	}
	width := 0
	switch c {
	case 'x':
		width = 2
	case 'u':
		width = 4
	case 'U':
		width = 8
	}
	if width == 0 {
		b.WriteByte('\\')
		b.WriteByte(c)
		return nil
	}
	if p.i+width > len(p.s) {
		return p.errorf("an escape is cut short")
	}
	n, err := strconv.ParseUint(p.s[p.i:p.i+width], 16, 32)
	if err != nil || n > utf8.MaxRune {
		return p.errorf("%q is no escape", p.s[p.i:p.i+width])
	}
	p.i += width
	if n >= 0xDC80 && n <= 0xDCFF {
		b.WriteByte(byte(n))
		return nil
	}
	b.WriteRune(rune(n))
	return nil
}
