package config

import (
	"fmt"
	"sort"
	"strings"
)

// Problem is one thing that is wrong in the files.
type Problem struct {
	File    string
	Line    int // 0 when no line is to blame
	Section string
	Option  string
	Value   string // redacted
	Message string
	Hint    string
	Warning bool // the server is usable all the same
}

// String is "file:line: [section] option = value: message; remedy".
func (p Problem) String() string {
	var b strings.Builder
	b.WriteString(p.File)
	if p.Line > 0 {
		fmt.Fprintf(&b, ":%d", p.Line)
	}
	if b.Len() > 0 {
		b.WriteString(": ")
	}
	subject := p.Option
	if p.Option != "" && p.Value != "" {
		subject += " = " + p.Value
	}
	if p.Section != "" {
		subject = strings.TrimSpace("[" + p.Section + "] " + subject)
	}
	if subject != "" {
		b.WriteString(subject + ": ")
	}
	b.WriteString(p.Message)
	if p.Hint != "" {
		b.WriteString("; " + p.Hint)
	}
	return b.String()
}

func sortProblems(list []Problem) {
	sort.SliceStable(list, func(i, j int) bool {
		if list[i].File != list[j].File {
			return list[i].File < list[j].File
		}
		return list[i].Line < list[j].Line
	})
}

func errorsOf(list []Problem) []Problem {
	var out []Problem
	for _, p := range list {
		if !p.Warning {
			out = append(out, p)
		}
	}
	return out
}

// Origin is where a value came from.
type Origin struct {
	File    string
	Line    int
	Section string
	Default bool   // nobody set it
	Model   string // the active model that set it
}

// String is "file:line [section]" or "default".
func (o Origin) String() string {
	if o.Default {
		return "default"
	}
	if o.Model != "" {
		return fmt.Sprintf("%s:%d model [%s]", o.File, o.Line, o.Model)
	}
	return fmt.Sprintf("%s:%d [%s]", o.File, o.Line, o.Section)
}
