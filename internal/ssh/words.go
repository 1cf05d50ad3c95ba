package ssh

import (
	"strings"

	"github.com/holdfast-pg/holdfast/internal/fault"
)

// Words splits a command as a shell does (POSIX, Shell Command Language, 2.2
// Quoting); nothing is expanded.
func Words(text string) ([]string, error) {
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
		return nil, fault.New(fault.Config, "read", "ssh_command", "the quote %c has no end in %q", quote, text).WithHint("close it, or put a backslash before it")
	}
	if inWord {
		out = append(out, word.String())
	}
	if len(out) == 0 {
		return nil, fault.New(fault.Config, "read", "ssh_command", "it is empty").WithHint("set it to a command such as ssh postgres@pg")
	}
	return out, nil
}

// Quote makes one word of a shell out of any text.
func Quote(text string) string {
	return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'"
}
