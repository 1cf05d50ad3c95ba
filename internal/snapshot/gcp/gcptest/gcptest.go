// Package gcptest is a server that speaks as much of Compute Engine's REST API as
// snapshots need, in the vendor's own types, for tests. It keeps what is made, hands
// out tokens, and fails as it is told to. It checks no rights and knows one project.
package gcptest

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"cloud.google.com/go/compute/apiv1/computepb"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// Project and Zone are where everything is.
const (
	Project = "prod"
	Zone    = "europe-west1-b"
	Region  = "europe-west1"
)

// Failure is an answer that is an error.
type Failure struct {
	Status       int
	Reason, Text string
}

// Server is the API.
type Server struct {
	*httptest.Server
	// Creating and Uploading are how many looks at a snapshot find it in these states.
	Creating, Uploading int
	// PageSize bounds a page of a list; 0 is no bound.
	PageSize int
	// Fail may refuse a request; Lose may carry it out and break the connection
	// instead of answering. Called with the lock held.
	Fail func(r *http.Request) *Failure
	Lose func(r *http.Request) bool
	// Breaks are the codes and texts with which the operations for disks end.
	Breaks map[string]*computepb.Errors
	// Token is the one that is good; TokenStatus is another answer to who asks for one.
	Token       string
	TokenStatus int
	// Log are the requests but those for tokens, with their bodies.
	Log []string

	mu         sync.Mutex
	instances  map[string]*computepb.Instance
	disks      map[string]*computepb.Disk // by their URLs
	snapshots  map[string]*computepb.Snapshot
	looks      map[string]int // at snapshots
	operations map[string]*computepb.Operation
	requests   map[string]string // operations by the IDs of requests
	count      int
}

// New starts a server with an instance pg, and points the default credentials of
// the test at it.
func New(t *testing.T) *Server {
	s := &Server{Token: "token-1", instances: map[string]*computepb.Instance{"pg": {Name: proto.String("pg")}}, disks: map[string]*computepb.Disk{}, snapshots: map[string]*computepb.Snapshot{},
		looks: map[string]int{}, operations: map[string]*computepb.Operation{}, requests: map[string]string{}, Breaks: map[string]*computepb.Errors{}}
	s.Server = httptest.NewServer(s)
	t.Cleanup(s.Close)
	file := filepath.Join(t.TempDir(), "credentials.json")
	text := fmt.Sprintf(`{"type":"authorized_user","client_id":"c","client_secret":"secret","refresh_token":"r","token_uri":%q}`, s.URL+"/token")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("GOOGLE_APPLICATION_CREDENTIALS", file)
	return s
}

// Attach adds a disk to pg; scope is "zones/..." or "regions/...".
func (s *Server) Attach(scope, name, device string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	at := s.link("projects", Project, scope, "disks", name)
	s.disks[at] = &computepb.Disk{Name: &name, SelfLink: &at, Type: proto.String(s.link("projects", Project, scope, "diskTypes/pd-ssd"))}
	s.attach("pg", at, device)
}

func (s *Server) attach(instance, at, device string) {
	i := s.instances[instance]
	i.Disks = append(i.Disks, &computepb.AttachedDisk{Source: &at, DeviceName: &device, Type: proto.String("PERSISTENT")})
}

// Detach removes the disks of a name from pg.
func (s *Server) Detach(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := s.instances["pg"]
	i.Disks = slices.DeleteFunc(i.Disks, func(d *computepb.AttachedDisk) bool { return path.Base(d.GetSource()) == name })
}

// AddInstance adds one without disks.
func (s *Server) AddInstance(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.instances[name] = &computepb.Instance{Name: &name}
}

// Snapshots are the names of all, sorted.
func (s *Server) Snapshots() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Sorted(maps.Keys(s.snapshots))
}

// Put adds a snapshot that somebody else has made.
func (s *Server) Put(one *computepb.Snapshot) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.snapshots[one.GetName()] = one
}

// Drop removes a snapshot, as somebody else would.
func (s *Server) Drop(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.snapshots, name)
	delete(s.looks, name)
}

// SetStatus fixes the status of a snapshot.
func (s *Server) SetStatus(name, status string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.snapshots[name].Status = &status
	s.looks[name] = -1
}

func (s *Server) link(words ...string) string {
	return "https://www.googleapis.com/compute/v1/" + strings.Join(words, "/")
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.URL.Path == "/token" {
		if s.TokenStatus != 0 {
			w.WriteHeader(s.TokenStatus)
			_, _ = io.WriteString(w, `{"error":"invalid_grant","error_description":"secret"}`)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"access_token":%q,"expires_in":3600,"token_type":"Bearer"}`, s.Token)
		return
	}
	s.Log = append(s.Log, entry(r, body))
	if r.Header.Get("Authorization") != "Bearer "+s.Token {
		refuse(w, &Failure{http.StatusUnauthorized, "authError", "Invalid Credentials"})
		return
	}
	if s.Fail != nil {
		if f := s.Fail(r); f != nil {
			refuse(w, f)
			return
		}
	}
	m, f := s.answer(r, body)
	switch {
	case s.Lose != nil && s.Lose(r):
		panic(http.ErrAbortHandler)
	case f != nil:
		refuse(w, f)
	default:
		text, _ := protojson.Marshal(m)
		w.Header().Set("Content-Type", "application/json; charset=UTF-8")
		_, _ = w.Write(text)
	}
}

// entry is a request as the log has it.
func entry(r *http.Request, body []byte) string {
	text := r.Method + " " + r.URL.Path
	if q := r.URL.Query(); len(q) > 0 {
		text += "?" + q.Encode()
	}
	if len(body) > 0 {
		var into any
		_ = json.Unmarshal(body, &into)
		sorted, _ := json.Marshal(into)
		text += "\n    " + string(sorted)
	}
	return text
}

func refuse(w http.ResponseWriter, f *Failure) {
	w.Header().Set("Content-Type", "application/json; charset=UTF-8")
	w.WriteHeader(f.Status)
	text, _ := json.Marshal(map[string]any{"error": map[string]any{"code": f.Status, "message": f.Text,
		"errors": []map[string]string{{"message": f.Text, "domain": "global", "reason": f.Reason}}}})
	_, _ = w.Write(text)
}

func absent(what string) *Failure {
	return &Failure{http.StatusNotFound, "notFound", "The resource '" + what + "' was not found"}
}

func taken(what string) *Failure {
	return &Failure{http.StatusConflict, "alreadyExists", "The resource '" + what + "' already exists"}
}

var snapshotName = regexp.MustCompile(`^[a-z]([-a-z0-9]{0,61}[a-z0-9])?$`)
var labelText = regexp.MustCompile(`^[a-z0-9_-]{0,63}$`)

// answer does what a request asks for.
func (s *Server) answer(r *http.Request, body []byte) (proto.Message, *Failure) {
	words := strings.Split(strings.TrimPrefix(r.URL.Path, "/compute/v1/projects/"+Project+"/"), "/")
	route := r.Method + " " + strings.Join(words[:min(len(words), 2)], "/")
	if words[0] != "global" && len(words) > 2 {
		route = r.Method + " " + words[0] + "/" + words[2]
	}
	last := words[len(words)-1]
	switch {
	case route == "GET zones/instances" && len(words) == 4:
		if i := s.instances[last]; i != nil && words[1] == Zone {
			return i, nil
		}
	case route == "GET zones/disks", route == "GET regions/disks":
		if d := s.disks[s.link("projects", Project, words[0], words[1], "disks", last)]; d != nil {
			return d, nil
		}
	case route == "POST zones/disks":
		return s.makeDisk(r, body)
	case route == "POST zones/instances" && last == "attachDisk":
		return s.attachDisk(words[3], body)
	case route == "POST global/snapshots":
		return s.makeSnapshot(r, body)
	case route == "GET global/snapshots" && len(words) == 2:
		return s.list(r)
	case route == "GET global/snapshots":
		if one := s.snapshots[last]; one != nil {
			s.look(last)
			return one, nil
		}
	case route == "DELETE global/snapshots":
		if one := s.snapshots[last]; one != nil {
			delete(s.snapshots, last)
			delete(s.looks, last)
			return s.operation(r.URL.Query().Get("requestId"), "DONE", one.GetName()), nil
		}
	case route == "GET global/operations", route == "GET zones/operations":
		if op := s.operations[last]; op != nil {
			return s.poll(op), nil
		}
	default:
		return nil, &Failure{http.StatusNotImplemented, "notImplemented", route + " is not served here"}
	}
	return nil, absent(strings.TrimPrefix(r.URL.Path, "/compute/v1/"))
}

// operation files one; that of a request with an ID is found again.
func (s *Server) operation(id, status, target string) *computepb.Operation {
	s.count++
	name := "operation-" + strconv.Itoa(s.count)
	state := computepb.Operation_Status(computepb.Operation_Status_value[status])
	op := &computepb.Operation{Name: &name, Status: &state, TargetLink: proto.String(s.link("projects", Project, "global/snapshots", target))}
	s.operations[name] = op
	if id != "" {
		s.requests[id] = name
	}
	return op
}

// poll looks at an operation, which lasts as long as its snapshot is not ready.
func (s *Server) poll(op *computepb.Operation) *computepb.Operation {
	target := path.Base(op.GetTargetLink())
	done := computepb.Operation_DONE
	one := s.snapshots[target]
	if op.GetStatus() == done {
		return op
	}
	if bad := s.Breaks[path.Base(one.GetSourceDisk())]; bad != nil {
		op.Status, op.Error = &done, &computepb.Error{Errors: []*computepb.Errors{bad}}
		op.HttpErrorStatusCode, op.HttpErrorMessage = proto.Int32(http.StatusForbidden), proto.String("FORBIDDEN")
		delete(s.snapshots, target)
		return op
	}
	if one != nil {
		s.look(target)
	}
	if one == nil || one.GetStatus() == "READY" || one.GetStatus() == "FAILED" {
		op.Status = &done
	}
	return op
}

// look moves a snapshot on.
func (s *Server) look(name string) {
	n := s.looks[name]
	if n < 0 {
		return
	}
	status := "READY"
	if n < s.Creating {
		status = "CREATING"
	} else if n < s.Creating+s.Uploading {
		status = "UPLOADING"
	}
	if one := s.snapshots[name]; one.Status != nil {
		one.Status, s.looks[name] = &status, n+1
	}
}

func (s *Server) makeSnapshot(r *http.Request, body []byte) (proto.Message, *Failure) {
	if op := s.operations[s.requests[r.URL.Query().Get("requestId")]]; op != nil {
		return s.poll(op), nil
	}
	one := &computepb.Snapshot{}
	if err := protojson.Unmarshal(body, one); err != nil {
		return nil, &Failure{http.StatusBadRequest, "invalid", err.Error()}
	}
	if !snapshotName.MatchString(one.GetName()) {
		return nil, &Failure{http.StatusBadRequest, "invalid", "Invalid value for field 'resource.name': '" + one.GetName() + "'"}
	}
	for k, v := range one.GetLabels() {
		if !labelText.MatchString(k) || !labelText.MatchString(v) {
			return nil, &Failure{http.StatusBadRequest, "invalid", "Invalid value for field 'resource.labels': " + k + "=" + v}
		}
	}
	if s.disks[one.GetSourceDisk()] == nil {
		return nil, absent(one.GetSourceDisk())
	}
	if s.snapshots[one.GetName()] != nil {
		return nil, taken(one.GetName())
	}
	s.count++
	one.Id, one.Status = proto.Uint64(uint64(s.count)), proto.String("CREATING")
	s.snapshots[one.GetName()] = one
	op := s.operation(r.URL.Query().Get("requestId"), "RUNNING", one.GetName())
	op.Warnings = []*computepb.Warnings{{Code: proto.String("LARGE_DEPLOYMENT_WARNING"), Message: proto.String("it is large")}}
	return op, nil
}

func (s *Server) list(r *http.Request) (proto.Message, *Failure) {
	key, value, _ := strings.Cut(strings.TrimPrefix(r.URL.Query().Get("filter"), "labels."), "=")
	from, _ := strconv.Atoi(r.URL.Query().Get("pageToken"))
	out := &computepb.SnapshotList{}
	names := slices.Sorted(maps.Keys(s.snapshots))
	names = slices.DeleteFunc(names, func(n string) bool { return s.snapshots[n].GetLabels()[key] != value })
	for i := from; i < len(names); i++ {
		if s.PageSize > 0 && i == from+s.PageSize {
			out.NextPageToken = proto.String(strconv.Itoa(i))
			break
		}
		s.look(names[i])
		out.Items = append(out.Items, s.snapshots[names[i]])
	}
	return out, nil
}

func (s *Server) makeDisk(r *http.Request, body []byte) (proto.Message, *Failure) {
	d := &computepb.Disk{}
	if err := protojson.Unmarshal(body, d); err != nil {
		return nil, &Failure{http.StatusBadRequest, "invalid", err.Error()}
	}
	at := s.link("projects", Project, "zones", Zone, "disks", d.GetName())
	switch {
	case s.disks[at] != nil:
		return nil, taken(d.GetName())
	case s.snapshots[path.Base(d.GetSourceSnapshot())] == nil:
		return nil, absent(d.GetSourceSnapshot())
	}
	d.SourceSnapshot = proto.String(s.link(d.GetSourceSnapshot()))
	d.SelfLink = &at
	s.disks[at] = d
	return s.operation(r.URL.Query().Get("requestId"), "RUNNING", d.GetName()+"-disk"), nil
}

func (s *Server) attachDisk(instance string, body []byte) (proto.Message, *Failure) {
	d := &computepb.AttachedDisk{}
	if err := protojson.Unmarshal(body, d); err != nil || s.instances[instance] == nil {
		return nil, absent("instances/" + instance)
	}
	at := s.link(d.GetSource())
	if s.disks[at] == nil {
		return nil, absent(at)
	}
	s.attach(instance, at, d.GetDeviceName())
	return s.operation("", "RUNNING", d.GetDeviceName()+"-attached"), nil
}
