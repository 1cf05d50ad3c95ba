package docs

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

func TestBlocksAreOfKnownKinds(t *testing.T) {
	for _, p := range reading(t) {
		if _, err := p.blocks(); err != nil {
			t.Error(err)
		}
	}
	if _, err := (page{"bad.md", "```\nls\n```\n"}).blocks(); err == nil {
		t.Error("a block without a kind passes")
	}
}

func TestTheManualListsEveryPage(t *testing.T) {
	list := readPage(t, "README.md").text
	pages, err := filepath.Glob("*.md")
	must(t, err)
	for _, name := range pages {
		if name != "README.md" && !strings.Contains(list, "| ["+name+"]("+name+") |") {
			t.Errorf("README.md does not list %s", name)
		}
	}
}

var link = regexp.MustCompile(`\]\(([^)#\s]+)(#[^)\s]+)?\)`)

func TestLinksLeadSomewhere(t *testing.T) {
	for _, p := range reading(t) {
		for _, m := range link.FindAllStringSubmatch(p.text, -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			target := filepath.Join(filepath.Dir(p.name), m[1])
			text, err := os.ReadFile(target)
			if info, statErr := os.Stat(target); statErr == nil && info.IsDir() {
				err = nil
			}
			if err != nil {
				t.Errorf("%s: %v", p.name, err)
			}
			if m[2] != "" && !slices.Contains(anchors(string(text)), m[2]) {
				t.Errorf("%s: %s has no heading %s", p.name, target, m[2])
			}
		}
	}
}

func TestEveryImageIsShown(t *testing.T) {
	images, err := filepath.Glob("images/*.png")
	must(t, err)
	if len(images) == 0 {
		t.Error("there are no images")
	}
	text := readPage(t, "ui.md").text
	for _, image := range images {
		if !strings.Contains(text, "]("+image+")") {
			t.Errorf("no page shows %s", image)
		}
	}
}

// anchors are the links to a page's headings, as they are made from their words.
func anchors(text string) []string {
	var out []string
	for _, m := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(text, -1) {
		words := regexp.MustCompile(`[^a-z0-9 _-]`).ReplaceAllString(strings.ToLower(m[1]), "")
		out = append(out, "#"+strings.ReplaceAll(words, " ", "-"))
	}
	return out
}

// TestEveryKindOfErrorHasARemedy: the table in failures.md has each kind of internal/fault.
func TestEveryKindOfErrorHasARemedy(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "../internal/fault/fault.go", nil, 0)
	must(t, err)
	var want []string
	ast.Inspect(file, func(n ast.Node) bool {
		spec, is := n.(*ast.ValueSpec)
		if !is {
			return true
		}
		if of, is := spec.Type.(*ast.Ident); is && of.Name == "Kind" {
			kind, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
			must(t, err)
			want = append(want, kind)
		}
		return true
	})
	if len(want) < 10 {
		t.Fatalf("only %v were found in internal/fault", want)
	}
	row := regexp.MustCompile("(?m)^\\| `([A-Za-z]+)` \\| [^|]+ \\| [^|]+ \\|$")
	var got []string
	for _, m := range row.FindAllStringSubmatch(readPage(t, "failures.md").text, -1) {
		got = append(got, m[1])
	}
	for _, kind := range want {
		if !slices.Contains(got, kind) {
			t.Errorf("failures.md says nothing of errors of kind %s", kind)
		}
	}
	for _, kind := range got {
		if !slices.Contains(want, kind) {
			t.Errorf("failures.md tells of errors of kind %s, which do not exist", kind)
		}
	}
}
