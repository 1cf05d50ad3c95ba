// Package shellwords splits commands into words. It is no shell: it expands and
// runs nothing.
package shellwords

import (
	"fmt"
	"strings"
)

// Split splits a command as a shell does (POSIX, Shell Command Language, 2.2
// Quoting); nothing is expanded. It fails when a quote has no end.
func Split(text string) ([]string, error) {
	var out []string
	var word strings.Builder
	inWord, quote := false, byte(0)
	for i := 0; i < len(text); i++ {
		c := text[i]
		switch {
		case quote == '\'':
			if c == quote {
				quote = 0
			} else {
				word.WriteByte(c)
			}
		case c == '\\' && i+1 < len(text):
			i++
			switch next := text[i]; {
			case next == '\n':
				continue
			case quote != 0 && !strings.ContainsRune("$`\"\\", rune(next)):
				word.WriteByte(c)
				word.WriteByte(next)
			default:
				word.WriteByte(next)
			}
			inWord = true
		case quote != 0:
			if c == quote {
				quote = 0
			} else {
				word.WriteByte(c)
			}
		case c == '\'' || c == '"':
			quote, inWord = c, true
		case c == ' ' || c == '\t' || c == '\n':
			if inWord {
				out = append(out, word.String())
				word.Reset()
				inWord = false
			}
		default:
			word.WriteByte(c)
			inWord = true
		}
	}
	if quote != 0 {
		return nil, fmt.Errorf("the quote %c has no end", quote)
	}
	if inWord {
		out = append(out, word.String())
	}
	return out, nil
}
