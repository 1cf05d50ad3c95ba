package main

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

var update = flag.Bool("update", false, "rewrite the files that tests compare with")

const referenceHead = `# Commands

<!-- Made from the commands themselves by "go test ./starter -update". -->

` + "`holdfast COMMAND --help`" + ` prints the same. Barman's names of commands and options work. Global
options may stand before and after the command.

`

const referenceCodes = `
## Exit codes

| code | meaning |
|---|---|
| 0 | done |
| 1 | failed |
| 2 | wrong usage or configuration |
| 3 | the server, backup or file does not exist |
| 4 | refused: busy, not empty, out of reach |
| 5 | the engine cannot be reached |
| 130 | interrupted |

Errors and warnings go to stderr, with what to do about them. With ` + "`-f json`" + ` stdout holds one object,
whose keys are sorted, and nothing else; messages are its arrays ` + "`_INFO`, `_WARNING`, `_ERROR` and `_HINT`" + `.
`

// TestReference: docs/commands.md says what the commands say of themselves.
func TestReference(t *testing.T) {
	root := (&app{stdout: &bytes.Buffer{}, stderr: &bytes.Buffer{}}).root()
	var b bytes.Buffer
	b.WriteString(referenceHead)
	writeOptions(&b, "Global option", root.PersistentFlags())
	b.WriteString(referenceCodes)
	for _, c := range documented(root) {
		for what, text := range map[string]string{"summary": c.Short, "example": c.Example} {
			if text == "" {
				t.Errorf("%s has no %s", c.CommandPath(), what)
			}
		}
		writeCommand(&b, c)
	}
	const path = "../docs/commands.md"
	if *update {
		if err := os.WriteFile(path, b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(want, b.Bytes()) {
		t.Errorf("%s is not what the commands say (%v); run go test ./starter -update and look at the difference", path, err)
	}
}

func writeCommand(b *bytes.Buffer, c *cobra.Command) {
	fmt.Fprintf(b, "\n## %s\n\n%s.\n\n```\n%s\n```\n", strings.TrimPrefix(c.CommandPath(), "holdfast "), c.Short, c.UseLine())
	if c.Long != "" {
		fmt.Fprintf(b, "\n%s\n", c.Long)
	}
	if len(c.Aliases) > 0 {
		fmt.Fprintf(b, "\nAlso called: `%s`.\n", strings.Join(c.Aliases, "`, `"))
	}
	if c.LocalNonPersistentFlags().HasFlags() {
		b.WriteString("\n")
		writeOptions(b, "Option", c.LocalNonPersistentFlags())
	}
	fmt.Fprintf(b, "\nExample:\n\n```\n%s\n```\n", dedent(c.Example))
	if codes := c.Annotations[exitAnnotation]; codes != "" {
		b.WriteString("\nExit codes: " + strings.ReplaceAll(codes, "\n", "; ") + ".\n")
	}
}

func writeOptions(b *bytes.Buffer, title string, flags *pflag.FlagSet) {
	fmt.Fprintf(b, "| %s | Meaning |\n|---|---|\n", title)
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Hidden || f.Name == "help" {
			return
		}
		name, usage := describeOption(f)
		fmt.Fprintf(b, "| `%s` | %s |\n", name, strings.ReplaceAll(usage, "|", `\|`))
	})
}

func dedent(s string) string {
	lines := strings.Split(s, "\n")
	for i := range lines {
		lines[i] = strings.TrimPrefix(lines[i], "  ")
	}
	return strings.Join(lines, "\n")
}
