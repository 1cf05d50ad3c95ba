//go:build !amd64

package lanes

func ways() map[string]func([]byte) sums { return map[string]func([]byte) sums{"one by one": oneByOne} }
