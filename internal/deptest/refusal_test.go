package deptest

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"
)

// TestRefusalsHaveARemedy: whoever is refused is told what to do instead, or
// that nothing can force it.
func TestRefusalsHaveARemedy(t *testing.T) {
	found := 0
	files := token.NewFileSet()
	err := filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		file, err := parser.ParseFile(files, path, nil, 0)
		if err != nil {
			return err
		}
		remedied := map[ast.Node]bool{}
		ast.Inspect(file, func(n ast.Node) bool {
			call, is := n.(*ast.CallExpr)
			if !is {
				return true
			}
			if method, is := call.Fun.(*ast.SelectorExpr); is && method.Sel.Name == "WithHint" {
				remedied[method.X] = true
			}
			if !refusal(call) {
				return true
			}
			found++
			if !remedied[call] {
				t.Errorf("%s: a refusal without WithHint", files.Position(call.Pos()))
			}
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if found < 20 {
		t.Errorf("only %d refusals were found", found)
	}
}

// refusal reports whether a call is fault.New(fault.Refused, ...).
func refusal(call *ast.CallExpr) bool {
	name := func(e ast.Expr) string {
		s, is := e.(*ast.SelectorExpr)
		if !is {
			return ""
		}
		if x, is := s.X.(*ast.Ident); is {
			return x.Name + "." + s.Sel.Name
		}
		return ""
	}
	return name(call.Fun) == "fault.New" && len(call.Args) > 0 && name(call.Args[0]) == "fault.Refused"
}
