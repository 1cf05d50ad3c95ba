// Package receipt is what a process leaves for the next one, which reads it while it is still starting.
//
// It imports os and less: what reads texts and numbers more comfortably is initialized late.
package receipt

import (
	"os"
	"strconv"
	"syscall"
)

// longest is far above any receipt, in bytes.
const longest = 1 << 20

// end is the last field of a receipt that is whole.
const end = "end"

// Text is a receipt of fields, none of which has a NUL in it.
func Text(fields []string) (text []byte) {
	for _, f := range fields {
		text = append(append(text, f...), 0)
	}
	return append(append(text, end...), 0)
}

// Read gives the fields of a file; false when it is no receipt, or not a whole one.
func Read(path string) (fields []string, whole bool) {
	st, err := os.Lstat(path) // a pipe would make us wait
	if err != nil || !st.Mode().IsRegular() || st.Size() > longest {
		return nil, false
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, false
	}
	begin := 0
	for i, b := range text {
		if b == 0 {
			fields, begin = append(fields, string(text[begin:i])), i+1
		}
	}
	n := len(fields) - 1
	if n < 0 || fields[n] != end {
		return nil, false
	}
	return fields[:n], true
}

// Mark changes whenever a file is written or replaced, or the entries of a directory change: the kernel
// sets the change time, and nobody else can.
func Mark(st *syscall.Stat_t) (mark string) {
	for _, n := range []int64{int64(st.Dev), int64(st.Ino), st.Size, st.Mtim.Nano(), st.Ctim.Nano()} {
		mark += strconv.FormatInt(n, 10) + "."
	}
	return mark
}
