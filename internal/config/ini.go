package config

import (
	"strconv"
	"strings"

	"github.com/holdfast-pg/holdfast/internal/lazyregexp"
)

// entry is one option of a section as it stands in a file.
type entry struct {
	name string // lower case
	raw  string // continuation lines joined with newlines, not interpolated
	file string
	line int
}

// section is what all files together say under one header.
type section struct {
	name    string
	file    string
	line    int
	entries map[string]entry
	order   []string
}

func (s *section) set(e entry) {
	if _, there := s.entries[e.name]; !there {
		s.order = append(s.order, e.name)
	}
	s.entries[e.name] = e
}

// optionName is what may be repeated in a message; anything else could be a
// fragment of a secret that slipped into the name's place.
var optionName = lazyregexp.New(`^[A-Za-z_][A-Za-z0-9_]{0,63}$`)

// parseINI reads one file as Python's configparser does: options end at the
// first = or :, deeper indentation continues a value, # and ; start comment
// lines. Sections are returned in the order of the file.
func parseINI(file, text string) ([]*section, []Problem) {
	p := &iniParser{file: file, seen: map[string]*section{}}
	for i, line := range strings.Split(text, "\n") {
		p.line(i+1, strings.TrimSuffix(line, "\r"))
	}
	p.endOption()
	return p.sections, p.problems
}

type iniParser struct {
	file     string
	sections []*section
	seen     map[string]*section
	current  *section
	problems []Problem

	open   *entry
	value  []string
	indent int
}

func (p *iniParser) line(number int, line string) {
	text := strings.TrimSpace(line)
	if text == "" {
		if p.open != nil {
			p.value = append(p.value, "")
		}
		return
	}
	if text[0] == '#' || text[0] == ';' {
		return
	}
	indent := len(line) - len(strings.TrimLeft(line, " \t\f\v"))
	if p.open != nil && indent > p.indent {
		p.value = append(p.value, text)
		return
	}
	p.endOption()
	p.indent = indent
	if text[0] == '[' {
		p.header(number, text)
		return
	}
	p.option(number, text)
}

func (p *iniParser) header(number int, text string) {
	end := strings.LastIndexByte(text, ']')
	if end < 2 {
		p.current = nil
		p.report(Problem{Line: number, Message: "a section header without a name or a closing bracket",
			Hint: "write it as [name]"})
		return
	}
	name := text[1:end]
	if first := p.seen[name]; first != nil {
		p.current = first
		p.report(Problem{Line: number, Section: name, Message: "the section is in this file twice, first at line " + strconv.Itoa(first.line),
			Hint: "join the two"})
		return
	}
	p.current = &section{name: name, file: p.file, line: number, entries: map[string]entry{}}
	p.seen[name] = p.current
	p.sections = append(p.sections, p.current)
}

func (p *iniParser) option(number int, text string) {
	cut := strings.IndexAny(text, "=:")
	if cut < 1 {
		p.report(Problem{Line: number, Section: p.sectionName(), Message: "neither a section header nor an option",
			Hint: "write [name] or option = value; indent a line to continue the value above it"})
		return
	}
	name := strings.ToLower(strings.TrimSpace(text[:cut]))
	if p.current == nil {
		p.report(Problem{Line: number, Option: printableName(name), Message: "an option outside of any section",
			Hint: "put it below [barman] or below the name of a server"})
		return
	}
	if first, there := p.current.entries[name]; there {
		p.report(Problem{Line: number, Section: p.current.name, Option: printableName(name),
			Message: "the option is set twice, first at line " + strconv.Itoa(first.line), Hint: "keep one of the two"})
	}
	p.open = &entry{name: name, file: p.file, line: number}
	p.value = []string{strings.TrimSpace(text[cut+1:])}
}

func (p *iniParser) endOption() {
	if p.open == nil {
		return
	}
	p.open.raw = strings.TrimSpace(strings.Join(p.value, "\n"))
	p.current.set(*p.open)
	p.open, p.value = nil, nil
}

func (p *iniParser) sectionName() string {
	if p.current == nil {
		return ""
	}
	return p.current.name
}

func (p *iniParser) report(problem Problem) {
	problem.File = p.file
	p.problems = append(p.problems, problem)
}

func printableName(name string) string {
	if optionName.MatchString(name) {
		return name
	}
	return ""
}

// unquote removes one pair of matching outer quotes.
func unquote(s string) string {
	if len(s) >= 2 && (s[0] == '"' || s[0] == '\'') && s[len(s)-1] == s[0] {
		return s[1 : len(s)-1]
	}
	return s
}
