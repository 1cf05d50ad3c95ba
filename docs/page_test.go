package docs

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// The kinds of fenced blocks. The tests run sh and sql, make configuration of
// ini, and compare output with what the sh block before it has printed; text is
// for what only a reader can do.
var kinds = []string{"sh", "sql", "ini", "output", "text"}

// generated pages come from the program itself, and are compared with it elsewhere.
var generated = []string{"commands.md", "configuration.md"}

// block is a fenced block of a page.
type block struct {
	kind, text string
	line       int // of the page, from 1
}

// page is a page of the manual; README is the project's own.
type page struct {
	name, text string
}

func readPage(t testing.TB, name string) page {
	t.Helper()
	text, err := os.ReadFile(name)
	must(t, err)
	return page{name, string(text)}
}

// reading is the pages that people wrote, in the order in which the manual lists them.
func reading(t testing.TB) []page {
	t.Helper()
	list := readPage(t, "README.md")
	pages := []page{readPage(t, "../README.md"), list}
	for _, m := range regexp.MustCompile(`(?m)^\| \[([a-z-]+\.md)\]`).FindAllStringSubmatch(list.text, -1) {
		if !slices.Contains(generated, m[1]) {
			pages = append(pages, readPage(t, m[1]))
		}
	}
	return pages
}

// blocks are a page's fenced blocks.
func (p page) blocks() ([]block, error) {
	var out []block
	var open *block
	for n, line := range strings.Split(p.text, "\n") {
		fence, isFence := strings.CutPrefix(line, "```")
		switch {
		case isFence && open == nil:
			if !slices.Contains(kinds, fence) {
				return nil, fmt.Errorf("%s:%d: a block of kind %q; there are %s", p.name, n+1, fence, strings.Join(kinds, ", "))
			}
			open = &block{kind: fence, line: n + 2}
		case isFence:
			if fence != "" {
				return nil, fmt.Errorf("%s:%d: the block of line %d is not closed", p.name, n+1, open.line)
			}
			out, open = append(out, *open), nil
		case open != nil:
			open.text += line + "\n"
		}
	}
	if open != nil {
		return nil, fmt.Errorf("%s: the block of line %d is not closed", p.name, open.line)
	}
	return out, nil
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
