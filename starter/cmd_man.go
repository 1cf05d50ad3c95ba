package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/holdfast-pg/holdfast/internal/atomicfile"
	"github.com/holdfast-pg/holdfast/internal/fault"
)

func (a *app) cmdMan() *cobra.Command {
	return &cobra.Command{
		Use: "man DIR", Short: "Write the manual pages, for packages", Hidden: true,
		Long:    "Writes a manual page for holdfast and for each of its commands into a directory.",
		Example: "  holdfast man /usr/share/man/man1", Args: exactly("DIR"),
		RunE: func(cmd *cobra.Command, args []string) error { return writeManuals(cmd.Root(), args[0]) },
	}
}

func writeManuals(root *cobra.Command, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fault.Wrap(fault.Internal, "create directory", dir, err)
	}
	for _, c := range append([]*cobra.Command{root}, documented(root)...) {
		if err := atomicfile.Write(filepath.Join(dir, manualName(c)+".1"), []byte(manual(c)), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// documented lists the commands that do something, in the order of the help text.
func documented(root *cobra.Command) []*cobra.Command {
	var out []*cobra.Command
	for _, c := range root.Commands() {
		switch {
		case c.Hidden:
		case c.HasSubCommands():
			out = append(out, documented(c)...)
		default:
			out = append(out, c)
		}
	}
	return out
}

func manualName(c *cobra.Command) string { return strings.ReplaceAll(c.CommandPath(), " ", "-") }

// manual is a command's page for man(1).
func manual(c *cobra.Command) string {
	var b strings.Builder
	section := func(title string) { fmt.Fprintf(&b, ".SH %s\n", title) }
	name := manualName(c)
	fmt.Fprintf(&b, ".TH %s 1 \"\" \"holdfast %s\" \"Holdfast\"\n", strings.ToUpper(strings.ReplaceAll(name, "-", `\-`)), version)
	section("NAME")
	fmt.Fprintf(&b, "%s \\- %s\n", roff(name), roff(c.Short))
	section("SYNOPSIS")
	fmt.Fprintf(&b, ".B %s\n", roff(c.UseLine()))
	section("DESCRIPTION")
	b.WriteString(roff(c.Long) + "\n")
	if len(c.Aliases) > 0 {
		fmt.Fprintf(&b, ".PP\nAlso called: %s.\n", roff(join(c.Aliases)))
	}
	if c.HasSubCommands() {
		section("COMMANDS")
		for _, sub := range documented(c) {
			fmt.Fprintf(&b, ".TP\n.B %s\n%s.\n", roff(strings.TrimPrefix(sub.CommandPath(), c.Name()+" ")), roff(sub.Short))
		}
	}
	manualOptions(&b, "OPTIONS", c.LocalFlags())
	manualOptions(&b, "GLOBAL OPTIONS", c.InheritedFlags())
	if c.Example != "" {
		section("EXAMPLES")
		fmt.Fprintf(&b, ".nf\n%s\n.fi\n", roff(c.Example))
	}
	if codes := c.Annotations[exitAnnotation]; codes != "" {
		section("EXIT STATUS")
		for _, line := range strings.Split(codes, "\n") {
			code, meaning, _ := strings.Cut(line, " ")
			fmt.Fprintf(&b, ".TP\n%s\n%s\n", roff(code), roff(meaning))
		}
	}
	if c.HasParent() {
		section("SEE ALSO")
		fmt.Fprintf(&b, ".BR %s (1)\n", roff(c.Root().Name()))
	}
	return b.String()
}

func manualOptions(b *strings.Builder, title string, flags *pflag.FlagSet) {
	begun := false
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Hidden {
			return
		}
		if !begun {
			fmt.Fprintf(b, ".SH %s\n", title)
			begun = true
		}
		name, usage := describeOption(f)
		fmt.Fprintf(b, ".TP\n.B %s\n%s\n", roff(name), roff(usage))
	})
}

// describeOption is an option with its value, and its meaning with its default.
func describeOption(f *pflag.Flag) (name, usage string) {
	value, usage := pflag.UnquoteUsage(f)
	name = "--" + f.Name
	if value != "" {
		name += " " + strings.ToUpper(value)
	}
	if f.Shorthand != "" {
		name = "-" + f.Shorthand + ", " + name
	}
	switch f.DefValue {
	case "", "false", "0", "[]":
	default:
		usage += " (default: " + f.DefValue + ")"
	}
	return name, usage
}

// roff keeps a text from being read as requests of the formatter.
func roff(text string) string {
	text = strings.NewReplacer(`\`, `\e`, "-", `\-`).Replace(text)
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		if strings.HasPrefix(line, ".") || strings.HasPrefix(line, "'") {
			lines[i] = `\&` + line
		}
	}
	return strings.Join(lines, "\n")
}
