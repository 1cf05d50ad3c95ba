package config

import (
	"errors"
	"fmt"
	"strings"
)

// Python gives up at the same depth; the length keeps a few doubling
// references from filling the memory.
const (
	maxReferences = 10
	maxExpanded   = 1 << 20
)

// expander replaces %(name)s by the value of another option of the same
// section or of [DEFAULT], and %% by a percent sign.
type expander struct {
	lookup func(name string) (string, bool)
	names  []string // every reference that was followed
	size   int
}

func (x *expander) expand(raw string, depth int) (string, error) {
	if depth > maxReferences {
		return "", errors.New("its %(name)s references are nested too deeply, or refer to themselves")
	}
	var b strings.Builder
	for {
		i := strings.IndexByte(raw, '%')
		if i < 0 {
			b.WriteString(raw)
			break
		}
		b.WriteString(raw[:i])
		raw = raw[i+1:]
		if strings.HasPrefix(raw, "%") {
			b.WriteByte('%')
			raw = raw[1:]
			continue
		}
		end := strings.Index(raw, ")s")
		if !strings.HasPrefix(raw, "(") || end < 0 {
			return "", errors.New("a percent sign begins %(name)s or must be doubled")
		}
		name := strings.ToLower(raw[1:end])
		value, ok := x.lookup(name)
		if !ok {
			if printableName(name) == "" {
				return "", errors.New("a percent sign begins %(name)s or must be doubled")
			}
			return "", fmt.Errorf("%%(%s)s refers to an option that this section does not have", name)
		}
		x.names = append(x.names, name)
		value, err := x.expand(value, depth+1)
		if err != nil {
			return "", err
		}
		b.WriteString(value)
		raw = raw[end+2:]
		if x.size += len(value); x.size > maxExpanded {
			return "", errors.New("it becomes too long when its %(name)s references are replaced")
		}
	}
	return b.String(), nil
}
