// Package osuser lets a process that was started as root go on as the user that
// owns the backups.
package osuser

import (
	"errors"
	"os"
	"os/user"
	"strconv"
	"syscall"

	"github.com/holdfast-pg/holdfast/internal/fault"
)

// Become makes a process of root a process of the named user: it sets groups,
// user and home, and executes the same program again, so that nothing of root
// is left in it. For every other user it does nothing.
func Become(name string) error {
	if os.Geteuid() != 0 || name == "root" {
		return nil
	}
	u, err := user.Lookup(name)
	if err != nil {
		var unknown user.UnknownUserError
		if !errors.As(err, &unknown) {
			return fault.Wrap(fault.Internal, "look up user", name, err)
		}
		return fault.New(fault.Config, "become", "barman_user = "+name, "there is no such user").
			WithHint("create it, or set barman_user in the configuration to the user that owns the backups")
	}
	uid, err1 := strconv.Atoi(u.Uid)
	gid, err2 := strconv.Atoi(u.Gid)
	if err := errors.Join(err1, err2); err != nil {
		return fault.Wrap(fault.Internal, "look up user", name, err)
	}
	ids, err := u.GroupIds()
	if err != nil {
		return fault.Wrap(fault.Internal, "look up the groups of", name, err)
	}
	var groups []int
	for _, id := range ids {
		if n, err := strconv.Atoi(id); err == nil {
			groups = append(groups, n)
		}
	}
	self, err := os.Executable()
	if err != nil {
		return fault.Wrap(fault.Internal, "find", "our own program", err)
	}
	if err := errors.Join(syscall.Setgroups(groups), syscall.Setgid(gid), syscall.Setuid(uid)); err != nil {
		return fault.Wrap(fault.Permission, "become", name, err)
	}
	for k, v := range map[string]string{"HOME": u.HomeDir, "USER": u.Username, "LOGNAME": u.Username} {
		if err := os.Setenv(k, v); err != nil {
			return fault.Wrap(fault.Internal, "set", k, err)
		}
	}
	return fault.Wrap(fault.Permission, "run as "+name, self, syscall.Exec(self, os.Args, os.Environ()))
}
