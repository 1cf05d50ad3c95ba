package shellwords

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestWordsAreThoseOfAShell asks a shell.
func TestWordsAreThoseOfAShell(t *testing.T) {
	for _, text := range []string{
		"ssh postgres@pg", "  ssh\t-p 22  pg ", `ssh -o "ProxyCommand=nc -X 5 %h %p" pg`, `ssh -i '/home/odd name/key' pg`,
		`a'b'"c"d`, `''`, `"" x`, `a\ b`, `"a\"b\\c\d"`, `'a\b'`, `a\'b`, `"it's"`, `'say "x"'`, "a\\\nb", "\"a\\\nb\"", "'a\nb' c", `\\`, "ü\xff",
	} {
		out, err := exec.CommandContext(t.Context(), "sh", "-c", "printf '%s\\0' "+text).Output()
		require.NoError(t, err, text)
		got, err := Split(text)
		require.NoError(t, err, text)
		assert.Equal(t, strings.Split(strings.TrimSuffix(string(out), "\x00"), "\x00"), got, text)
	}
}

func TestNothing(t *testing.T) {
	for _, text := range []string{"", " \t"} {
		got, err := Split(text)
		require.NoError(t, err)
		assert.Empty(t, got)
	}
}

func TestQuotesWithoutAnEnd(t *testing.T) {
	for text, want := range map[string]string{"ssh 'pg": "the quote ' has no end", `ssh "pg`: `the quote " has no end`} {
		_, err := Split(text)
		require.EqualError(t, err, want)
	}
}
