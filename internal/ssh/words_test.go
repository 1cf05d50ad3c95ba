package ssh

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/holdfast-pg/holdfast/internal/fault"
)

// TestWordsAreThoseOfAShell asks a shell.
func TestWordsAreThoseOfAShell(t *testing.T) {
	for _, text := range []string{
		"ssh postgres@pg", "  ssh\t-p 22  pg ", `ssh -o "ProxyCommand=nc -X 5 %h %p" pg`, `ssh -i '/home/odd name/key' pg`,
		`a'b'"c"d`, `''`, `"" x`, `a\ b`, `"a\"b\\c\d"`, `'a\b'`, `a\'b`, `"it's"`, `'say "x"'`, "a\\\nb", "\"a\\\nb\"", "'a\nb' c", `\\`, "ü\xff",
	} {
		out, err := exec.CommandContext(t.Context(), "sh", "-c", "printf '%s\\0' "+text).Output()
		require.NoError(t, err, text)
		got, err := Words(text)
		require.NoError(t, err, text)
		assert.Equal(t, strings.Split(strings.TrimSuffix(string(out), "\x00"), "\x00"), got, text)
	}
}

func TestWordsThatAreNone(t *testing.T) {
	for text, part := range map[string]string{"": "it is empty", " \t": "it is empty", "ssh 'pg": "the quote ' has no end", `ssh "pg`: `the quote " has no end`} {
		_, err := Words(text)
		require.ErrorContains(t, err, part)
		assert.True(t, fault.Is(err, fault.Config))
		assert.NotEmpty(t, fault.HintOf(err))
	}
}

func TestQuote(t *testing.T) {
	for _, text := range []string{"", "plain", "it's", "a b\nc", `\"$x`, "\xff"} {
		words, err := Words("x " + Quote(text))
		require.NoError(t, err)
		assert.Equal(t, []string{"x", text}, words)
	}
}

func TestOptionsThatACommandNames(t *testing.T) {
	for text, want := range map[string]bool{
		"-o BatchMode=no pg": true, "-oBatchMode=no pg": true, "pg -o batchmode=no": true, "-o 'BatchMode no' pg": true,
		"-o BatchModes=no pg": false, "pg": false, "-o": false, "-p 22 -o User=BatchMode pg": false,
	} {
		words, err := Words(text)
		require.NoError(t, err)
		assert.Equal(t, want, names(words, "BatchMode"), text)
	}
}
