package ssh

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/holdfast-pg/holdfast/internal/command"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/shellwords"
)

// Link leads to one host until it is closed. Its methods may be called by
// several goroutines.
type Link struct {
	words   []string // ssh_command
	program string
	options []string // ours
	env     []string
	dir     string // of the socket; "" when nothing is shared

	mu     sync.Mutex
	master *master
}

// Open logs in. The programs that the link runs on this host have env in their
// environment, and end with this process.
func Open(ctx context.Context, text string, env ...string) (*Link, error) {
	words, err := shellwords.Split(text)
	if err == nil && len(words) == 0 {
		err = errors.New("it is empty")
	}
	if err != nil {
		return nil, fault.New(fault.Config, "read", "ssh_command", "%w", err).WithHint("set it to a command such as ssh postgres@pg")
	}
	program, err := command.Find(words[0], "")
	if filepath.IsAbs(words[0]) {
		program, err = words[0], nil
	}
	if err != nil {
		return nil, err
	}
	l := &Link{words: words, program: program, env: env}
	var share bool
	if l.options, share = complete(ctx, program, words); share {
		if l.dir, err = socketDir(); err != nil {
			return nil, err
		}
	}
	if err := l.Run(ctx, "", io.Discard); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

// Close ends the shared connection, and with it whatever still uses it.
func (l *Link) Close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.master != nil {
		l.master.end()
		l.master = nil
	}
	if l.dir != "" {
		_ = os.RemoveAll(l.dir)
	}
}

// Command is what a program is given that brings the rest of the command line
// itself, as rsync does: the words up to the host.
func (l *Link) Command() []string {
	return append([]string{l.program}, l.arguments()...)
}

func (l *Link) arguments(first ...string) []string {
	args := slices.Concat(first, l.options)
	if l.dir != "" {
		args = append(args, "-o", "ControlPath="+l.socket())
	}
	return append(args, l.words[1:]...)
}

// greeting is the first line of every script's output. What comes before it was
// said by the login shell.
const greeting = "holdfast was here\n"

// Run gives a script to sh on the host and copies what it prints. It fails with
// fault.Connection when the host cannot be reached, or no longer, and with a
// *command.ExitError in its chain when the script fails.
func (l *Link) Run(ctx context.Context, script string, out io.Writer) error {
	if err := l.connect(ctx); err != nil {
		return err
	}
	clean := &greeted{out: out}
	err := command.Run(ctx, command.Spec{Path: l.program, Args: append(l.arguments(), "sh"), Env: l.env, Stdout: clean,
		Stdin: strings.NewReader(fmt.Sprintf("printf '%%s\\n' %s\n%s\n", Quote(strings.TrimSpace(greeting)), script))})
	if noise := clean.noise(); noise != "" && ctx.Err() == nil {
		return fault.New(fault.Tool, "log in with", strings.Join(l.words, " "), "%w: %q", errNoise, noise).
			WithHint("let the start-up files of the user on the host (.bashrc, .profile, .cshrc) print nothing when the shell is not interactive: what rsync says would not be understood")
	}
	if clean.err != nil {
		return clean.err
	}
	return explain(l.words, err)
}

var errNoise = errors.New("the login shell prints text of its own")

// IsNoise reports whether an error is that the login shell prints text of its own.
func IsNoise(err error) bool { return errors.Is(err, errNoise) }

// greeted passes on what follows the greeting.
type greeted struct {
	out  io.Writer
	seen []byte // before it
	past bool
	err  error // of out
}

// muchNoise is as much as is looked at for a greeting.
const muchNoise = 64 << 10

func (g *greeted) Write(p []byte) (int, error) {
	n := len(p)
	if !g.past {
		g.seen = append(g.seen, p...)
		text := string(g.seen)
		at := strings.Index(text, greeting)
		if at < 0 {
			if len(g.seen) > muchNoise {
				return 0, errors.New("no greeting")
			}
			return n, nil
		}
		g.past, g.seen, p = true, []byte(text[:at]), []byte(text[at+len(greeting):])
	}
	if len(p) == 0 {
		return n, nil
	}
	if _, err := g.out.Write(p); err != nil {
		g.err = err
		return 0, err
	}
	return n, nil
}

// noise is the first line that is not ours.
func (g *greeted) noise() string {
	first, _, _ := strings.Cut(strings.TrimSpace(string(g.seen)), "\n")
	return first
}

// master is the process that has the shared connection.
type master struct {
	end  context.CancelFunc
	done chan struct{}
	err  error
}

// connect makes the shared connection where there is none.
func (l *Link) connect(ctx context.Context) error {
	if l.dir == "" {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.master != nil {
		select {
		case <-l.master.done:
		default:
			return nil
		}
	}
	_ = os.Remove(l.socket())
	running, end := context.WithCancel(context.WithoutCancel(ctx))
	m := &master{done: make(chan struct{})}
	m.end = func() { end(); <-m.done }
	go func() {
		defer close(m.done)
		m.err = command.Run(running, command.Spec{Path: l.program, Args: l.arguments("-M", "-N", "-o", "ControlPersist=no"), Env: l.env})
	}()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		if _, err := os.Stat(l.socket()); err == nil {
			l.master = m
			return nil
		}
		select {
		case <-tick.C:
		case <-m.done:
			end()
			return explain(l.words, m.err)
		case <-ctx.Done():
			m.end()
			return fault.Wrap(fault.Cancelled, "log in with", strings.Join(l.words, " "), context.Cause(ctx))
		}
	}
}
