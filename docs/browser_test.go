//go:build integration

package docs

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// patience bounds every wait for what comes by itself.
const patience = 2 * time.Minute

// browser is a headless Chromium with one page. It is driven by the DevTools
// protocol over a pipe: JSON messages, each ended by a zero byte.
type browser struct {
	t       testing.TB
	in      *os.File
	out     *bufio.Reader
	session string
	calls   int
}

// The size of the page, and so of the screenshots.
const width, height = 1440, 860

func openBrowser(t testing.TB) *browser {
	t.Helper()
	path, err := exec.LookPath("chromium")
	if err != nil {
		t.Fatalf("%v: run .ci/need.sh chromium", err)
	}
	fromUs, in, err := os.Pipe()
	must(t, err)
	out, toUs, err := os.Pipe()
	must(t, err)
	cmd := exec.Command(path, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars",
		"--user-data-dir="+t.TempDir(), "--remote-debugging-pipe")
	cmd.ExtraFiles = []*os.File{fromUs, toUs}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	must(t, cmd.Start())
	fromUs.Close()
	toUs.Close()
	t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		_ = cmd.Wait()
		in.Close()
		out.Close()
	})
	must(t, out.SetReadDeadline(time.Now().Add(2*patience)))
	b := &browser{t: t, in: in, out: bufio.NewReader(out)}
	var target struct{ TargetID string }
	b.call("Target.createTarget", map[string]any{"url": "about:blank"}, &target)
	var attached struct{ SessionID string }
	b.call("Target.attachToTarget", map[string]any{"targetId": target.TargetID, "flatten": true}, &attached)
	b.session = attached.SessionID
	b.call("Emulation.setDeviceMetricsOverride", map[string]any{"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false}, nil)
	b.call("Emulation.setTimezoneOverride", map[string]any{"timezoneId": "UTC"}, nil)
	return b
}

// call does one thing and waits until it is done; events are passed over.
func (b *browser) call(method string, params map[string]any, result any) {
	b.t.Helper()
	b.calls++
	message := map[string]any{"id": b.calls, "method": method, "params": params}
	if b.session != "" {
		message["sessionId"] = b.session
	}
	text, err := json.Marshal(message)
	must(b.t, err)
	_, err = b.in.Write(append(text, 0))
	must(b.t, err)
	for {
		text, err := b.out.ReadBytes(0)
		if err != nil {
			b.t.Fatalf("Chromium does not answer to %s: %v", method, err)
		}
		var answer struct {
			ID     int
			Result json.RawMessage
			Error  *struct{ Message string }
		}
		must(b.t, json.Unmarshal(text[:len(text)-1], &answer))
		switch {
		case answer.ID != b.calls:
			continue
		case answer.Error != nil:
			b.t.Fatalf("Chromium: %s: %s", method, answer.Error.Message)
		case result != nil:
			must(b.t, json.Unmarshal(answer.Result, result))
		}
		return
	}
}

// run evaluates an expression in the page that gives a text.
func (b *browser) run(expression string) string {
	b.t.Helper()
	var answer struct{ Result struct{ Value string } }
	b.call("Runtime.evaluate", map[string]any{"expression": expression, "returnByValue": true}, &answer)
	return answer.Result.Value
}

// open goes to an address and waits until the page shows all the words.
func (b *browser) open(address string, words ...string) {
	b.t.Helper()
	b.call("Page.navigate", map[string]any{"url": address}, nil)
	b.await(words...)
}

// shown is the text of a page and of the frames in it, in which it shows markdown.
const shown = `[document, ...[...document.querySelectorAll('iframe')].map(f => f.contentDocument)].map(d => d?.body?.innerText).join(' ')`

// await waits until the page shows all the words.
func (b *browser) await(words ...string) {
	b.t.Helper()
	var text string
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		text = strings.Join(strings.Fields(b.run(shown)), " ")
		if lacks(text, words) == "" {
			return
		}
	}
	b.t.Fatalf("%s does not show %q:\n%s", b.run("location.href"), lacks(text, words), text)
}

// lacks is the first of the words that a text does not contain.
func lacks(text string, words []string) string {
	for _, word := range words {
		if !strings.Contains(text, word) {
			return word
		}
	}
	return ""
}

// press waits for a link or button, by its text or its label, and clicks it.
func (b *browser) press(name string) {
	b.t.Helper()
	find := fmt.Sprintf("(() => { for (const e of document.querySelectorAll('a, button')) if (e.innerText.trim().startsWith(%[1]q) || e.ariaLabel == %[1]q) { e.click(); return 'pressed' } })()", name)
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if b.run(find) == "pressed" {
			return
		}
	}
	b.t.Fatalf("%s has no link or button %q:\n%s", b.run("location.href"), name, b.run(shown))
}

// picture is what the page looks like, as PNG.
func (b *browser) picture() []byte {
	b.t.Helper()
	var answer struct{ Data string }
	b.call("Page.captureScreenshot", map[string]any{"format": "png"}, &answer)
	png, err := base64.StdEncoding.DecodeString(answer.Data)
	must(b.t, err)
	return png
}
