// Package handoff leaves a command line that is not about WAL files to holdfast-cli while the
// program that imports it is still starting.
//
// Of the packages whose imports are initialized, Go initializes the one with the first import path
// next (Go specification, "Program initialization"). This one imports syscall alone, so that it comes
// before os, net and the clients of object stores, with which the program spends most of its start.
// It says nothing where it fails: main hands over, too, and has what it takes to explain.
package handoff

import "syscall"

// Whole is the program with every command.
const Whole = "holdfast-cli"

// Moves says whether a command is about a WAL file.
func Moves(command string) bool {
	switch command {
	case "wal-archive", "wal-restore", "cloud-wal-archive", "cloud-wal-restore":
		return true
	}
	return false
}

func init() {
	args := arguments()
	for _, arg := range args {
		if Moves(arg) {
			return
		}
	}
	if path := sibling(); len(args) > 0 && path != "" {
		_ = syscall.Exec(path, args, syscall.Environ())
	}
}

// arguments are those of the process; none where that cannot be told.
func arguments() (args []string) {
	fd, err := syscall.Open("/proc/self/cmdline", syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	defer func() { _ = syscall.Close(fd) }()
	var arg []byte
	for {
		var piece [4096]byte
		n, err := syscall.Read(fd, piece[:])
		if err != nil {
			return nil
		}
		if n == 0 {
			return args
		}
		for _, c := range piece[:n] {
			if c != 0 {
				arg = append(arg, c)
				continue
			}
			args, arg = append(args, string(arg)), arg[:0]
		}
	}
}

// sibling is the path of the whole program, beside this one; "" where that cannot be told.
func sibling() string {
	var path [4096]byte // PATH_MAX of Linux
	n, err := syscall.Readlink("/proc/self/exe", path[:])
	for err == nil && n > 0 {
		if n--; path[n] == '/' {
			return string(path[:n+1]) + Whole
		}
	}
	return ""
}
