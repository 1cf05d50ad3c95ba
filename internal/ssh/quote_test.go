package ssh

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/holdfast-pg/holdfast/internal/shellwords"
)

func TestQuote(t *testing.T) {
	for _, text := range []string{"", "plain", "it's", "a b\nc", `\"$x`, "\xff"} {
		words, err := shellwords.Split("x " + Quote(text))
		require.NoError(t, err)
		assert.Equal(t, []string{"x", text}, words)
	}
}

func TestOptionsThatACommandNames(t *testing.T) {
	for text, want := range map[string]bool{
		"-o BatchMode=no pg": true, "-oBatchMode=no pg": true, "pg -o batchmode=no": true, "-o 'BatchMode no' pg": true,
		"-o BatchModes=no pg": false, "pg": false, "-o": false, "-p 22 -o User=BatchMode pg": false,
	} {
		words, err := shellwords.Split(text)
		require.NoError(t, err)
		assert.Equal(t, want, names(words, "BatchMode"), text)
	}
}
