// Package awstest is a server that speaks as much of EC2's query protocol as snapshots
// need, for tests. It keeps what is made, and fails as it is told to. It checks no
// signatures and knows one region and one account.
package awstest

import (
	"encoding/xml"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// Region and Account are where everything is.
const (
	Region  = "eu-west-2"
	Account = "012345678901"
)

// Failure is an answer that is an error.
type Failure struct {
	Status     int
	Code, Text string
}

// Instance is one, with its volumes.
type Instance struct{ ID, Name, State, Outpost string }

// Volume is one; Device is where it is attached.
type Volume struct{ ID, Name, Instance, Device, Snapshot, Type string }

// Snapshot is one.
type Snapshot struct {
	ID, Volume, State string
	Tags              map[string]string
	Mode              string // of its lock
	Until             time.Time

	looks int
}

// Server is the API.
type Server struct {
	*httptest.Server
	// Pending is how many looks at a snapshot find it pending.
	Pending int
	// PageSize bounds a page of a list; 0 is no bound.
	PageSize int
	// Fail may refuse a request; Lose may carry it out and break the connection instead of
	// answering. Hide keeps new snapshots out of lists. Called with the lock held.
	Fail func(action string, form url.Values) *Failure
	Lose func(action string, form url.Values) bool
	Hide bool
	// Log are the requests, their forms sorted.
	Log []string

	mu        sync.Mutex
	Instances []*Instance
	Volumes   []*Volume
	made      []*Snapshot
	tokens    map[string]string
	count     int
}

// New starts a server with an instance pg (i-1), whose root volume is vol-root.
func New(t *testing.T) *Server {
	s := &Server{Instances: []*Instance{{ID: "i-1", Name: "pg", State: "running"}}, tokens: map[string]string{},
		Volumes: []*Volume{{ID: "vol-root", Name: "root", Instance: "i-1", Device: "/dev/xvda", Type: "gp2"}}}
	s.Server = httptest.NewServer(s)
	t.Cleanup(s.Close)
	return s
}

// Snapshots are all of them.
func (s *Server) Snapshots() []Snapshot {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []Snapshot
	for _, one := range s.made {
		out = append(out, *one)
	}
	return out
}

// Add enters a snapshot that was made elsewhere.
func (s *Server) Add(one Snapshot) {
	s.Do(func() { s.made = append(s.made, &one) })
}

// Do changes what there is while no request is served.
func (s *Server) Do(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

// Complete ends what is pending.
func (s *Server) Complete(state string) {
	s.Do(func() {
		for _, one := range s.made {
			one.State, one.looks = state, -1
		}
	})
}

// Unlock ends all locks.
func (s *Server) Unlock() {
	s.Do(func() {
		for _, one := range s.made {
			one.Mode = ""
		}
	})
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if err := r.ParseForm(); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	form := r.PostForm
	action := form.Get("Action")
	s.mu.Lock()
	defer s.mu.Unlock()
	s.Log = append(s.Log, entry(form))
	var f *Failure
	var answer any
	if s.Fail != nil {
		f = s.Fail(action, form)
	}
	if f == nil {
		answer, f = s.answer(action, form)
	}
	if f == nil && s.Lose != nil && s.Lose(action, form) {
		panic(http.ErrAbortHandler)
	}
	w.Header().Set("Content-Type", "text/xml;charset=UTF-8")
	if f != nil {
		w.WriteHeader(f.Status)
		fmt.Fprintf(w, "<Response><Errors><Error><Code>%s</Code><Message>%s</Message></Error></Errors><RequestID>r</RequestID></Response>", f.Code, escape(f.Text))
		return
	}
	text, err := xml.Marshal(answer)
	if err != nil {
		panic(err)
	}
	_, _ = fmt.Fprintf(w, "<%[1]sResponse>%[2]s</%[1]sResponse>", action, strings.TrimSuffix(strings.TrimPrefix(string(text), "<x>"), "</x>"))
}

func escape(text string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(text))
	return b.String()
}

// entry is a request as the log has it; tokens are left out.
func entry(form url.Values) string {
	var words []string
	for k, v := range form {
		if k != "Action" && k != "Version" {
			words = append(words, k+"="+strings.Join(v, ","))
		}
	}
	slices.Sort(words)
	return strings.Join(append([]string{form.Get("Action")}, words...), "\n    ")
}

// list are the values of NAME.1, NAME.2 and so on.
func list(form url.Values, name string) (out []string) {
	for i := 1; form.Has(name + "." + strconv.Itoa(i)); i++ {
		out = append(out, form.Get(name+"."+strconv.Itoa(i)))
	}
	return out
}

// tags are those of a request.
func tags(form url.Values, prefix string) map[string]string {
	out := map[string]string{}
	for i := 1; form.Has(fmt.Sprintf("%s.%d.Key", prefix, i)); i++ {
		out[form.Get(fmt.Sprintf("%s.%d.Key", prefix, i))] = form.Get(fmt.Sprintf("%s.%d.Value", prefix, i))
	}
	return out
}

// passes reports whether all filters of a request let something through.
func passes(form url.Values, has func(name string) string) bool {
	for i := 1; form.Has(fmt.Sprintf("Filter.%d.Name", i)); i++ {
		if !slices.Contains(list(form, fmt.Sprintf("Filter.%d.Value", i)), has(form.Get(fmt.Sprintf("Filter.%d.Name", i)))) {
			return false
		}
	}
	return true
}

type tagItem struct {
	Key   string `xml:"key"`
	Value string `xml:"value"`
}

func items(tags map[string]string) (out []tagItem) {
	for k, v := range tags {
		if v != "" {
			out = append(out, tagItem{k, v})
		}
	}
	slices.SortFunc(out, func(a, b tagItem) int { return strings.Compare(a.Key, b.Key) })
	return out
}

type snapshotItem struct {
	ID       string    `xml:"snapshotId"`
	Volume   string    `xml:"volumeId"`
	Status   string    `xml:"status,omitempty"` // of one snapshot
	State    string    `xml:"state,omitempty"`  // of one of a set
	Message  string    `xml:"statusMessage,omitempty"`
	Owner    string    `xml:"ownerId"`
	Progress string    `xml:"progress"`
	Tags     []tagItem `xml:"tagSet>item"`
}

func (one *Snapshot) item() snapshotItem {
	out := snapshotItem{ID: one.ID, Volume: one.Volume, Status: one.State, Owner: Account, Tags: items(one.Tags)}
	if one.State == "error" {
		out.Message = "the volume is broken"
	}
	return out
}

type attachment struct {
	Volume   string `xml:"volumeId"`
	Instance string `xml:"instanceId"`
	Device   string `xml:"device"`
	Status   string `xml:"status"`
}

type volumeItem struct {
	ID          string       `xml:"volumeId"`
	Status      string       `xml:"status"`
	Type        string       `xml:"volumeType"`
	Snapshot    string       `xml:"snapshotId,omitempty"`
	Attachments []attachment `xml:"attachmentSet>item"`
	Tags        []tagItem    `xml:"tagSet>item"`
}

func (v *Volume) item() volumeItem {
	out := volumeItem{ID: v.ID, Status: "available", Type: v.Type, Snapshot: v.Snapshot, Tags: items(map[string]string{"Name": v.Name})}
	if v.Instance != "" {
		out.Status, out.Attachments = "in-use", []attachment{{v.ID, v.Instance, v.Device, "attached"}}
	}
	return out
}

func absent(kind, id string) *Failure {
	return &Failure{http.StatusBadRequest, "Invalid" + kind + ".NotFound", "The " + strings.ToLower(kind) + " '" + id + "' does not exist."}
}

// page cuts a list.
func page[T any](s *Server, form url.Values, all []T) (some []T, next string) {
	from, _ := strconv.Atoi(form.Get("NextToken"))
	if s.PageSize > 0 && from+s.PageSize < len(all) {
		return all[from : from+s.PageSize], strconv.Itoa(from + s.PageSize)
	}
	return all[from:], ""
}

// answer does what a request asks for.
func (s *Server) answer(action string, form url.Values) (any, *Failure) {
	switch action {
	case "DescribeInstances":
		return s.describeInstances(form)
	case "DescribeVolumes":
		return s.describeVolumes(form)
	case "DescribeSnapshots":
		return s.describeSnapshots(form)
	case "CreateSnapshot":
		return s.createSnapshot(form)
	case "CreateSnapshots":
		return s.createSnapshots(form)
	case "CreateTags":
		one := s.snapshot(form.Get("ResourceId.1"))
		if one == nil {
			return nil, absent("Snapshot", form.Get("ResourceId.1"))
		}
		for k, v := range tags(form, "Tag") {
			one.Tags[k] = v
		}
		return done(), nil
	case "DeleteSnapshot":
		one := s.snapshot(form.Get("SnapshotId"))
		switch {
		case one == nil:
			return nil, absent("Snapshot", form.Get("SnapshotId"))
		case one.Mode != "":
			return nil, &Failure{http.StatusBadRequest, "SnapshotLocked", "The snapshot is locked"}
		}
		s.made = slices.DeleteFunc(s.made, func(o *Snapshot) bool { return o == one })
		return done(), nil
	case "LockSnapshot":
		return s.lock(form)
	case "DescribeLockedSnapshots":
		return s.locked(form)
	case "CreateVolume":
		return s.createVolume(form)
	case "AttachVolume":
		return s.attachVolume(form)
	}
	return nil, &Failure{http.StatusBadRequest, "InvalidAction", action + " is not served here"}
}

func done() any {
	return struct {
		XMLName xml.Name `xml:"x"`
		Return  bool     `xml:"return"`
	}{Return: true}
}

func (s *Server) snapshot(id string) *Snapshot {
	for _, one := range s.made {
		if one.ID == id {
			return one
		}
	}
	return nil
}

func (s *Server) volume(id string) *Volume {
	for _, v := range s.Volumes {
		if v.ID == id {
			return v
		}
	}
	return nil
}

func (s *Server) describeInstances(form url.Values) (any, *Failure) {
	type item struct {
		ID    string `xml:"instanceId"`
		State string `xml:"instanceState>name"`
		Root  string `xml:"rootDeviceName"`
		Zone  string `xml:"placement>availabilityZone"`
		Out   string `xml:"outpostArn,omitempty"`
	}
	var all []item
	ids := list(form, "InstanceId")
	for _, i := range s.Instances {
		has := map[string]string{"instance-state-name": i.State, "tag:Name": i.Name}
		if (len(ids) == 0 || slices.Contains(ids, i.ID)) && passes(form, func(n string) string { return has[n] }) {
			all = append(all, item{i.ID, i.State, "/dev/xvda", Region + "a", i.Outpost})
		}
	}
	if len(ids) > 0 && !slices.ContainsFunc(s.Instances, func(i *Instance) bool { return i.ID == ids[0] }) {
		return nil, &Failure{http.StatusBadRequest, "InvalidInstanceID.NotFound", "The instance ID '" + ids[0] + "' does not exist"}
	}
	some, next := page(s, form, all)
	return struct {
		XMLName xml.Name `xml:"x"`
		Items   []item   `xml:"reservationSet>item>instancesSet>item"`
		Next    string   `xml:"nextToken,omitempty"`
	}{Items: some, Next: next}, nil
}

func (s *Server) describeVolumes(form url.Values) (any, *Failure) {
	var all []volumeItem
	ids := list(form, "VolumeId")
	for _, v := range s.Volumes {
		if (len(ids) == 0 || slices.Contains(ids, v.ID)) && passes(form, func(string) string { return v.Instance }) {
			all = append(all, v.item())
		}
	}
	if len(ids) > 0 && len(all) == 0 {
		return nil, absent("Volume", ids[0])
	}
	some, next := page(s, form, all)
	return struct {
		XMLName xml.Name     `xml:"x"`
		Items   []volumeItem `xml:"volumeSet>item"`
		Next    string       `xml:"nextToken,omitempty"`
	}{Items: some, Next: next}, nil
}

func (s *Server) describeSnapshots(form url.Values) (any, *Failure) {
	var all []snapshotItem
	ids := list(form, "SnapshotId")
	for _, one := range s.made {
		if s.Hide || len(ids) > 0 && !slices.Contains(ids, one.ID) || !passes(form, func(n string) string { return one.Tags[strings.TrimPrefix(n, "tag:")] }) {
			continue
		}
		if one.looks >= 0 {
			if one.looks++; one.looks > s.Pending {
				one.State = "completed"
			}
		}
		all = append(all, one.item())
	}
	some, next := page(s, form, all)
	return struct {
		XMLName xml.Name       `xml:"x"`
		Items   []snapshotItem `xml:"snapshotSet>item"`
		Next    string         `xml:"nextToken,omitempty"`
	}{Items: some, Next: next}, nil
}

func (s *Server) make(volume string, tags map[string]string) *Snapshot {
	s.count++
	one := &Snapshot{ID: fmt.Sprintf("snap-%d", s.count), Volume: volume, State: "pending", Tags: tags}
	s.made = append(s.made, one)
	return one
}

func (s *Server) createSnapshot(form url.Values) (any, *Failure) {
	v := s.volume(form.Get("VolumeId"))
	if v == nil {
		return nil, absent("Volume", form.Get("VolumeId"))
	}
	return struct {
		XMLName xml.Name `xml:"x"`
		snapshotItem
	}{snapshotItem: s.make(v.ID, tags(form, "TagSpecification.1.Tag")).item()}, nil
}

func (s *Server) createSnapshots(form url.Values) (any, *Failure) {
	var all []snapshotItem
	for _, v := range s.Volumes {
		root := v.Device == "/dev/xvda" && form.Get("InstanceSpecification.ExcludeBootVolume") == "true"
		if v.Instance != form.Get("InstanceSpecification.InstanceId") || root || slices.Contains(list(form, "InstanceSpecification.ExcludeDataVolumeId"), v.ID) {
			continue
		}
		one := s.make(v.ID, tags(form, "TagSpecification.1.Tag")).item()
		one.Status, one.State = "", one.Status
		all = append(all, one)
	}
	return struct {
		XMLName xml.Name       `xml:"x"`
		Items   []snapshotItem `xml:"snapshotSet>item"`
	}{Items: all}, nil
}

type lockItem struct {
	ID    string `xml:"snapshotId"`
	State string `xml:"lockState"`
	Until string `xml:"lockExpiresOn"`
}

func (one *Snapshot) lockItem() lockItem {
	return lockItem{one.ID, one.Mode, one.Until.UTC().Format(time.RFC3339)}
}

func (s *Server) lock(form url.Values) (any, *Failure) {
	one := s.snapshot(form.Get("SnapshotId"))
	switch {
	case one == nil:
		return nil, absent("Snapshot", form.Get("SnapshotId"))
	case one.State != "completed":
		return nil, &Failure{http.StatusBadRequest, "IncorrectState", "The snapshot is pending"}
	case one.Mode != "":
		return nil, &Failure{http.StatusBadRequest, "InvalidParameterCombination", "The snapshot is locked"}
	}
	one.Mode = form.Get("LockMode")
	one.Until, _ = time.Parse("2006-01-02T15:04:05.999Z", form.Get("ExpirationDate"))
	if days, err := strconv.Atoi(form.Get("LockDuration")); err == nil {
		one.Until = time.Now().AddDate(0, 0, days)
	}
	return struct {
		XMLName xml.Name `xml:"x"`
		lockItem
	}{lockItem: one.lockItem()}, nil
}

func (s *Server) locked(form url.Values) (any, *Failure) {
	var all []lockItem
	for _, one := range s.made {
		if one.Mode != "" && slices.Contains(list(form, "SnapshotId"), one.ID) {
			all = append(all, one.lockItem())
		}
	}
	some, next := page(s, form, all)
	return struct {
		XMLName xml.Name   `xml:"x"`
		Items   []lockItem `xml:"snapshotSet>item"`
		Next    string     `xml:"nextToken,omitempty"`
	}{Items: some, Next: next}, nil
}

func (s *Server) createVolume(form url.Values) (any, *Failure) {
	if s.snapshot(form.Get("SnapshotId")) == nil {
		return nil, absent("Snapshot", form.Get("SnapshotId"))
	}
	token := form.Get("ClientToken")
	v := s.volume(s.tokens[token])
	if v == nil {
		s.count++
		v = &Volume{ID: fmt.Sprintf("vol-new%d", s.count), Name: tags(form, "TagSpecification.1.Tag")["Name"], Snapshot: form.Get("SnapshotId"), Type: form.Get("VolumeType")}
		s.Volumes = append(s.Volumes, v)
		s.tokens[token] = v.ID
	}
	return struct {
		XMLName xml.Name `xml:"x"`
		volumeItem
	}{volumeItem: v.item()}, nil
}

func (s *Server) attachVolume(form url.Values) (any, *Failure) {
	v := s.volume(form.Get("VolumeId"))
	if v == nil {
		return nil, absent("Volume", form.Get("VolumeId"))
	}
	v.Instance, v.Device = form.Get("InstanceId"), form.Get("Device")
	return struct {
		XMLName xml.Name `xml:"x"`
		attachment
	}{attachment: v.item().Attachments[0]}, nil
}
