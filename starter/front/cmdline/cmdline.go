// Package cmdline reads the command lines with which PostgreSQL has a WAL file moved. It is used while the
// program is still starting, when even strings is not initialized yet.
package cmdline

import "strconv"

// Call is such a command line.
type Call struct {
	Config  string // the file of -c; "" when none is named
	Fetch   bool   // out of the archive, not into it
	Partial bool   // of a fetch: an unfinished segment, too
	Server  string
	File    string // its path; of a fetch its name
	Dest    string // of a fetch
}

// Read understands the forms in which PostgreSQL is told to call us; false for every other,
// a wrong one too.
func Read(args []string) (c Call, is bool) {
	name := ""
	var rest []string
	for len(args) > 0 {
		arg := args[0]
		args = args[1:]
		option, value, has := cut(arg)
		switch {
		case option == "--config" && has:
			c.Config = value
		case (arg == "-c" || arg == "--config") && len(args) > 0:
			c.Config, args = args[0], args[1:]
		case arg == "-P", arg == "--partial":
			c.Partial = true
		case option == "--partial" && has:
			var err error
			if c.Partial, err = strconv.ParseBool(value); err != nil {
				return c, false
			}
		case arg == "", arg[0] == '-':
			return c, false
		case name == "":
			name = arg
			switch name {
			case "wal-archive", "cloud-wal-archive":
			case "wal-restore":
				c.Fetch = true
			case "cloud-wal-restore":
				c.Fetch, c.Partial = true, true
			default:
				return c, false
			}
		default:
			rest = append(rest, arg)
		}
	}
	switch {
	case c.Fetch && len(rest) == 3:
		c.Server, c.File, c.Dest = rest[0], rest[1], rest[2]
	case !c.Fetch && !c.Partial && len(rest) == 2:
		c.Server, c.File = rest[0], rest[1]
	default:
		return c, false
	}
	return c, true
}

// cut is strings.Cut at the first "=".
func cut(arg string) (option, value string, has bool) {
	for i := range len(arg) {
		if arg[i] == '=' {
			return arg[:i], arg[i+1:], true
		}
	}
	return arg, "", false
}
