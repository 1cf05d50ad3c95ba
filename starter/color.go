package main

import (
	"io"
	"os"

	"golang.org/x/term"
)

// The colours of terminals (ECMA-48, "Select graphic rendition").
const (
	red    = "\x1b[31m"
	green  = "\x1b[32m"
	yellow = "\x1b[33m"
	normal = "\x1b[0m"
)

// paint colours a text that goes to w, if --color wants it. Unless it says so,
// only terminals get colours, and none where NO_COLOR is set (no-color.org).
func (a *app) paint(w io.Writer, color, text string) string {
	if a.color == "never" || a.color != "always" && !colorful(w) {
		return text
	}
	return color + text + normal
}

func colorful(w io.Writer) bool {
	return os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb" && terminal(w)
}

func terminal(w io.Writer) bool {
	f, is := w.(*os.File)
	return is && term.IsTerminal(int(f.Fd()))
}
