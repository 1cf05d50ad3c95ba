// Package ssh runs shell scripts, and lets rsync run, on the host that a user's
// ssh_command leads to.
//
// The command is split as a shell splits it and gets options that its user set
// neither in it nor in ssh_config. OpenSSH connects once and shares that
// connection; another program is run as it is, for every script anew. Whatever
// keeps a script from running has an error of its own with its cure. It is not
// an implementation of the protocol, and it knows nothing of what is run.
package ssh
