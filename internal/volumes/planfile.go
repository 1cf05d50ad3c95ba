package volumes

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/holdfast-pg/holdfast/internal/fault"
)

// planHead begins a plan, followed by the limit and the stride.
const planHead = "holdfast-plan 2 "

// formerHead begins a plan without a stride: it was SegmentSize.
const formerHead = "holdfast-plan 1 "

// WriteTo writes the plan as text: a line for each volume, followed by one for each
// of its files. Paths are quoted as in Go.
func (p *Plan) WriteTo(w io.Writer) (int64, error) {
	out := bufio.NewWriterSize(w, 64<<10)
	var n int64
	line := fmt.Appendf(nil, "%s%d %d\n", planHead, p.Limit, p.Stride)
	write := func() error {
		k, err := out.Write(line)
		n += int64(k)
		return err
	}
	if err := write(); err != nil {
		return n, err
	}
	for _, v := range p.Volumes {
		line = fmt.Appendf(line[:0], "%s %d\n", v.Tree, v.Number)
		if err := write(); err != nil {
			return n, err
		}
		for _, f := range v.Files {
			line = strconv.AppendInt(append(line[:0], '\t'), f.Size, 10)
			line = append(strconv.AppendQuoteToASCII(append(line, ' '), f.Path), '\n')
			if err := write(); err != nil {
				return n, err
			}
		}
	}
	line = append(line[:0], ".\n"...)
	if err := write(); err != nil {
		return n, err
	}
	return n, out.Flush()
}

// ReadPlan reads a plan that WriteTo wrote; name says in errors where it comes from. One
// that is cut short or damaged is fault.Corrupt.
func ReadPlan(r io.Reader, name string) (*Plan, error) {
	in := bufio.NewReaderSize(r, 64<<10)
	p := &Plan{}
	for number := 1; ; number++ {
		text, err := in.ReadString('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, fault.Wrap(fault.Internal, "read the plan", name, err)
		}
		text, whole := strings.CutSuffix(text, "\n")
		if !whole {
			return nil, fault.New(fault.Corrupt, "read the plan", name, "it ends in line %d", number)
		}
		if text == "." {
			return p, nil
		}
		if err := p.line(number, text); err != nil {
			return nil, fault.New(fault.Corrupt, "read the plan", name, "line %d: %w", number, err)
		}
	}
}

func (p *Plan) line(number int, text string) error {
	if number == 1 {
		return p.head(text)
	}
	first, second, _ := strings.Cut(strings.TrimPrefix(text, "\t"), " ")
	if text[:min(1, len(text))] != "\t" {
		n, err := strconv.Atoi(second)
		p.Volumes = append(p.Volumes, Volume{Tree: first, Number: n})
		return err
	}
	if len(p.Volumes) == 0 {
		return errors.New("a file without a volume")
	}
	size, err := strconv.ParseInt(first, 10, 64)
	if err != nil {
		return err
	}
	path, err := strconv.Unquote(second)
	v := &p.Volumes[len(p.Volumes)-1]
	v.Files = append(v.Files, File{path, size})
	return err
}

func (p *Plan) head(text string) error {
	sizes, is := strings.CutPrefix(text, planHead)
	if former, was := strings.CutPrefix(text, formerHead); was {
		sizes = fmt.Sprintf("%s %d", former, SegmentSize)
	} else if !is {
		return errors.New("it is no plan, or one of a later version")
	}
	limit, stride, _ := strings.Cut(sizes, " ")
	var err, bad error
	p.Limit, err = strconv.ParseInt(limit, 10, 64)
	p.Stride, bad = strconv.Atoi(stride)
	if bad == nil && (p.Stride < smallestStride || p.Stride > SegmentSize || p.Stride%block != 0) {
		bad = fmt.Errorf("segments of %d bytes", p.Stride)
	}
	return errors.Join(err, bad)
}
