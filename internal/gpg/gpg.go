// Package gpg encrypts and decrypts with GnuPG, as Barman does: for one public
// key, without GnuPG's own compression, into files that gpg alone can read.
//
// Encryption needs the public key only. A passphrase comes from the command that
// the configuration names; it goes to gpg through a pipe, never into arguments,
// files or logs. It streams: memory does not depend on the size of a file.
package gpg

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/holdfast-pg/holdfast/internal/command"
	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/internal/fault"
)

// Name is what backup.info and xlog.db call it.
const Name = "gpg"

// Suffix is that of encrypted archives.
const Suffix = ".gpg"

// HeadSize is how many bytes of a file Detect wants to see.
const HeadSize = 5

// Detect reports whether a file that begins with head was encrypted for a public
// key: its first packet is a session key of version 3 or 6 (RFC 9580, 4.2 and 5.1).
func Detect(head []byte) bool {
	if len(head) < HeadSize {
		return false
	}
	var at int
	switch head[0] {
	case 0x84: // the length of the old format, in one byte, two, or four
		at = 2
	case 0x85:
		at = 3
	case 0xC1: // that of the new one
		at = 2
		if head[1] >= 192 {
			at = 3
		}
	default:
		return false
	}
	return head[at] == 3 || head[at] == 6
}

// Keys are those of a server. They are safe for concurrent use.
type Keys struct {
	recipient  string
	path       string
	passphrase func() (string, error) // asked once
}

// Of are the keys that a server's settings name.
func Of(s *config.Server) *Keys {
	k := &Keys{path: s.PathPrefix}
	if s.Encryption == Name {
		k.recipient = s.EncryptionKeyID
	}
	k.passphrase = sync.OnceValues(func() (string, error) { return ask(s.EncryptionPassphrase.Reveal()) })
	return k
}

// nobodys are the keys of who has configured none.
var nobodys = Of(&config.Server{})

// Encrypts reports whether what is written is to be encrypted.
func (k *Keys) Encrypts() bool { return k != nil && k.recipient != "" }

// ask runs the command that prints the passphrase; without one there is none.
func ask(script string) (string, error) {
	if script == "" {
		return "", nil
	}
	var out bytes.Buffer
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	err := command.Run(ctx, command.Spec{Path: "/bin/sh", Args: []string{"-c", script}, Stdout: &out})
	if text := strings.TrimSpace(out.String()); err == nil && text != "" {
		return text, nil
	}
	why := errors.New("it printed nothing")
	if err != nil {
		why = errors.New("it failed") // its own words may hold the secret
	}
	return "", fault.New(fault.Config, "run", "encryption_passphrase_command", "%w", why).
		WithHint("run the command by hand as the user that runs holdfast; it must print the passphrase, and end with 0")
}

// find looks for gpg.
func (k *Keys) find() (string, error) {
	path, err := command.Find("gpg", k.path)
	if err != nil {
		return "", fault.New(fault.Tool, "", "", "%w", err).WithHint("install gnupg, or let path_prefix name the directory of gpg")
	}
	return path, nil
}

// batch keeps gpg from asking anybody.
var batch = []string{"--batch", "--yes", "--no-tty", "--quiet", "--pinentry-mode", "loopback", "--no-auto-key-locate"}

// NewWriter encrypts into w. Close ends the stream; it does not close w. It must
// be called, also when what was written is not wanted.
func (k *Keys) NewWriter(ctx context.Context, w io.Writer) (io.WriteCloser, error) {
	path, err := k.find()
	if err != nil {
		return nil, err
	}
	// The configuration names the key; nobody else need have signed it.
	args := slices.Concat(batch, []string{"--trust-model", "always", "--compress-level", "0", "--recipient", k.recipient, "--encrypt"})
	return command.NewWriter(func(r io.Reader) error {
		return k.unencrypted(command.Run(ctx, command.Spec{Path: path, Args: args, Stdin: r, Stdout: w}))
	}), nil
}

func (k *Keys) unencrypted(err error) error {
	var exit *command.ExitError
	if !errors.As(err, &exit) || exit.Signal != "" {
		return err
	}
	return fault.New(fault.Tool, "encrypt for", k.recipient, "%w", err).
		WithHint("see that the key of encryption_key_id is in the keyring of the user that runs holdfast, has not expired and can encrypt ([E]): gpg --list-keys '%s'", k.recipient)
}

// Try encrypts a few bytes, to find out whether a backup could be.
func (k *Keys) Try(ctx context.Context) error {
	w, err := k.NewWriter(ctx, io.Discard)
	if err != nil {
		return err
	}
	_, err = io.WriteString(w, "trial")
	if cerr := w.Close(); cerr != nil {
		return cerr // why gpg ended says more than the broken pipe
	}
	return err
}

// errLocked is an encrypted file that nobody here can open.
var errLocked = errors.New("its secret key cannot be used here")

// IsLocked reports whether err means that the secret key is not here, or that its
// passphrase is not known.
func IsLocked(err error) bool { return errors.Is(err, errLocked) }

// NewReader decrypts r. Close does not close r. Nil keys are those of the keyring that need no passphrase.
func (k *Keys) NewReader(ctx context.Context, r io.Reader) (io.ReadCloser, error) {
	if k == nil {
		k = nobodys
	}
	path, err := k.find()
	if err != nil {
		return nil, err
	}
	secret, err := k.passphrase()
	if err != nil {
		return nil, err
	}
	return command.NewReader(ctx, func(ctx context.Context, w io.Writer) error {
		out, in, err := os.Pipe()
		if err != nil {
			return err
		}
		defer in.Close()
		if _, err := io.WriteString(in, secret+"\n"); err != nil { // it fits into the pipe
			return errors.Join(err, out.Close())
		}
		if err := in.Close(); err != nil {
			return errors.Join(err, out.Close())
		}
		args := slices.Concat(batch, []string{"--passphrase-fd", "3", "--decrypt"})
		return unread(command.Run(ctx, command.Spec{Path: path, Args: args, Stdin: r, Stdout: w, Lease: out}))
	}), nil
}

// locked are gpg's words for a secret key that it has not, or cannot use.
var locked = []string{"No secret key", "Bad passphrase", "No passphrase given", "No pinentry", "Inappropriate ioctl"}

func unread(err error) error {
	var exit *command.ExitError
	if !errors.As(err, &exit) || exit.Signal != "" {
		return err
	}
	for _, word := range locked {
		if strings.Contains(exit.Stderr, word) {
			return fault.New(fault.Refused, "decrypt", "", "%w: %w", errLocked, err).
				WithHint("import the secret key into the keyring of the user that runs holdfast, and let encryption_passphrase_command print its passphrase")
		}
	}
	return fault.New(fault.Corrupt, "decrypt", "", "%w", err)
}
