package config

import (
	"fmt"
	"io"
	"slices"
	"strings"
)

const referenceHead = `# Configuration

<!-- Made from the declarations in internal/config by "go generate ./internal/config". -->

Holdfast reads Barman's configuration files, so both can share them. Options of
Holdfast's own begin with ` + "`holdfast_`" + `; Barman warns about them and goes on.

## Which file

The first of these that is given or exists:

1. the file named by ` + "`-c`" + ` or ` + "`--config`" + `
2. the file named by the environment variable ` + "`HOLDFAST_CONFIG`" + `
3. the file named by the environment variable ` + "`BARMAN_CONFIG_FILE`" + `
4. ` + "`~/.barman.conf`, `/etc/barman.conf`, `/etc/barman/barman.conf`" + `

Then the ` + "`*.conf`" + ` files of ` + "`configuration_files_directory`" + ` are read in the order of their
names; they may not contain ` + "`[barman]`" + `. Last comes ` + "`.barman.auto.conf`" + ` in ` + "`barman_home`" + `.

## Syntax

` + "```ini" + `
[barman]
barman_home = /var/lib/barman
compression = zstd

; a server is called as its section is
[main]
conninfo = host=pg user=barman dbname=postgres
backup_method = postgres
retention_policy = RECOVERY WINDOW OF 4 WEEKS
` + "```" + `

- ` + "`option = value`" + ` or ` + "`option: value`" + `; names are not case-sensitive. A line that is indented
  deeper than its option continues the value. Lines that begin with ` + "`#` or `;`" + ` are comments;
  there are none at the end of a line.
- ` + "`%(name)s`" + ` stands for another option of the same section, or of ` + "`[DEFAULT]`" + `. **A percent sign
  that is meant as such is doubled**, in passwords too.
- One pair of quotes around a whole value is removed.
- The value of an option is looked for in the active model, in the server's section, in
  ` + "`[barman]`" + `, and is else the default. For text, ` + "`None`" + ` or an empty value means that the option is
  unset, whatever ` + "`[barman]`" + ` says.
- A section with ` + "`model = true`" + ` is a model. It overrides options of the servers of its ` + "`cluster`" + `
  while its name stands in ` + "`.active-model.auto`" + ` in their backup directory.
- An unknown option and most bad values are warnings, and the line is ignored. Where guessing
  could lose data or expose it (marked *strict*), the server is disabled until it is corrected.

` + "`holdfast config check`" + ` shows everything that is wrong, with file and line.
` + "`holdfast show-servers`" + ` shows each value and where it came from. Neither shows passwords.

## Types

`

const scopeHead = `
In the column *where*, G is ` + "`[barman]`" + `, S the section of a server, M a model. The column *backup* says
what this version refuses to take a backup with: such a backup is refused and names the
option, rather than taken as if the option were not there.
`

// topics in the order of the page.
var topics = []string{"General", "Connection", "Backup", "WAL and restore", "Retention", "Cloud", "Snapshots", "Hooks", "Holdfast's own"}

// WriteReference writes docs/configuration.md.
func WriteReference(w io.Writer) error {
	var b strings.Builder
	b.WriteString(referenceHead)
	for _, name := range sortedKeys(kinds) {
		if text := kinds[name].expects; text != "" && text != "text" {
			fmt.Fprintf(&b, "- *%s*: %s\n", name, text)
		}
	}
	b.WriteString(scopeHead)
	all := slices.Concat(globalOptions, serverOptions)
	for _, topic := range topics {
		fmt.Fprintf(&b, "\n## %s\n\n| option | value | default | where | backup | meaning |\n|---|---|---|---|---|---|\n", topic)
		for _, o := range all {
			if o.Topic == topic {
				writeRow(&b, o)
			}
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func writeRow(b *strings.Builder, o *Option) {
	doc := o.Doc
	if o.Instead != "" {
		doc += " Deprecated: use `" + o.Instead + "`."
	}
	if o.Strict {
		doc += " *strict*"
	}
	where := o.Scope
	if where == "" {
		where = "nowhere"
	}
	fmt.Fprintf(b, "| `%s` | %s | %s | %s | %s | %s |\n", o.Name, valueCell(o), defaultCell(o), where, backupCell(o), doc)
}

func valueCell(o *Option) string {
	switch {
	case o.Type == "enum":
		return "`" + strings.Join(o.Values, "` `") + "`"
	case o.Type == "csv":
		return "list of `" + strings.Join(o.Values, "` `") + "`"
	case o.Min != nil && o.Max != nil:
		return fmt.Sprintf("%s, %d to %d", o.Type, *o.Min, *o.Max)
	case o.Min != nil:
		return fmt.Sprintf("%s, at least %d", o.Type, *o.Min)
	}
	return o.Type
}

func defaultCell(o *Option) string {
	switch {
	case o.Default != "":
		return "`" + o.Default + "`"
	case o.Computed != "":
		return o.Computed
	}
	return "–"
}

func backupCell(o *Option) string {
	text := ""
	if allowed, is := strings.CutPrefix(o.Backup, "only:"); is {
		text = "only `" + strings.ReplaceAll(allowed, ",", "` `") + "`"
	} else if o.Backup != "" {
		text = o.Backup
		if o.Default != "" {
			text += ", unless `" + o.Default + "`"
		}
	}
	if o.Methods != nil {
		text += " (" + strings.Join(o.Methods, ", ") + ")"
	}
	return text
}
