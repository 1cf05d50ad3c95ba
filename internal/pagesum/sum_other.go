//go:build !amd64

package pagesum

func fold(page []byte) uint32 { return foldWords(page) }
