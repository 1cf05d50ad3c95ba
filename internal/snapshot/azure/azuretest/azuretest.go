// Package azuretest is a server that speaks as much of Azure's Resource Manager as
// snapshots need, in the vendor's own types, for tests. It keeps what is made, hands
// out tokens as a managed identity does, and fails as it is told to. It checks no
// rights and knows one subscription.
package azuretest

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/compute/armcompute/v7"
)

// The Subscription, the Group and the Location of everything.
const (
	Subscription = "0000-1111"
	Group        = "prod"
	Location     = "westeurope"
	inGroup      = "/subscriptions/" + Subscription + "/resourceGroups/" + Group + "/providers/Microsoft.Compute/"
)

// Failure is an answer that is an error, or the end of an operation.
type Failure struct {
	Status     int
	Code, Text string
}

// Server is the API.
type Server struct {
	*httptest.Server
	// Creating is how many looks find an operation in progress, and Copying how many
	// find a snapshot copied in part.
	Creating, Copying int
	// PageSize bounds a page of a list; 0 is no bound.
	PageSize int
	// Fail may refuse a request; Lose may carry it out and break the connection
	// instead of answering. Called with the lock held.
	Fail func(r *http.Request) *Failure
	Lose func(r *http.Request) bool
	// Breaks are how the operations for snapshots of disks end.
	Breaks map[string]Failure
	// Token is the one that is good; TokenStatus is another answer to who asks for one.
	Token       string
	TokenStatus int
	// TokenTime is for how long a token is good.
	TokenTime time.Duration
	// Log are the requests but those for tokens, with their bodies.
	Log []string

	mu         sync.Mutex
	machines   map[string]*armcompute.VirtualMachine
	disks      map[string]*armcompute.Disk
	snapshots  map[string]*armcompute.Snapshot
	operations map[string]*running
}

// running is an operation.
type running struct {
	looks  int
	target string // a snapshot
	failed *Failure
}

// New starts a server with a virtual machine pg in zone 2, and points the managed
// identity of the test at it.
func New(t *testing.T) *Server {
	s := &Server{Token: "token-1", TokenTime: time.Hour, machines: map[string]*armcompute.VirtualMachine{}, disks: map[string]*armcompute.Disk{}, snapshots: map[string]*armcompute.Snapshot{},
		operations: map[string]*running{}, Breaks: map[string]Failure{}}
	s.AddInstance("pg")
	s.Server = httptest.NewServer(s)
	t.Cleanup(s.Close)
	t.Setenv("IDENTITY_ENDPOINT", s.URL+"/token")
	t.Setenv("IDENTITY_HEADER", "secret")
	return s
}

// AddInstance adds a virtual machine without data disks.
func (s *Server) AddInstance(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.machines[name] = &armcompute.VirtualMachine{Name: &name, Location: to.Ptr(Location), Zones: []*string{to.Ptr("2")},
		Properties: &armcompute.VirtualMachineProperties{StorageProfile: &armcompute.StorageProfile{}}}
}

// Attach adds a data disk to pg.
func (s *Server) Attach(name string, lun int32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.disks[name] = &armcompute.Disk{Name: &name, ID: to.Ptr(inGroup + "disks/" + name), SKU: &armcompute.DiskSKU{Name: to.Ptr(armcompute.DiskStorageAccountTypesPremiumLRS)},
		Properties: &armcompute.DiskProperties{CreationData: &armcompute.CreationData{CreateOption: to.Ptr(armcompute.DiskCreateOptionEmpty)}}}
	s.attach("pg", name, lun)
}

func (s *Server) attach(machine, name string, lun int32) {
	p := s.machines[machine].Properties.StorageProfile
	p.DataDisks = append(p.DataDisks, &armcompute.DataDisk{Name: &name, Lun: &lun, ManagedDisk: &armcompute.ManagedDiskParameters{ID: to.Ptr(inGroup + "disks/" + name)}})
}

// AttachUnmanaged adds a data disk that is a blob to pg.
func (s *Server) AttachUnmanaged(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.machines["pg"].Properties.StorageProfile
	p.DataDisks = append(p.DataDisks, &armcompute.DataDisk{Name: &name, Lun: to.Ptr(int32(60))})
}

// NVMe makes pg a machine whose disks are behind an NVMe controller.
func (s *Server) NVMe() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.machines["pg"].Properties.StorageProfile.DiskControllerType = to.Ptr(armcompute.DiskControllerTypesNVMe)
}

// Detach removes a disk from pg.
func (s *Server) Detach(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.machines["pg"].Properties.StorageProfile
	p.DataDisks = slices.DeleteFunc(p.DataDisks, func(d *armcompute.DataDisk) bool { return *d.Name == name })
}

// Snapshots are the names of all, sorted.
func (s *Server) Snapshots() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Sorted(maps.Keys(s.snapshots))
}

// Put adds a snapshot that somebody else has made.
func (s *Server) Put(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.snapshots[name] = &armcompute.Snapshot{Name: &name, Properties: &armcompute.SnapshotProperties{ProvisioningState: to.Ptr("Succeeded")}}
}

// Change changes a snapshot.
func (s *Server) Change(name string, change func(*armcompute.SnapshotProperties)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(s.snapshots[name].Properties)
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	s.mu.Lock()
	defer s.mu.Unlock()
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	if r.URL.Path == "/token" {
		if s.TokenStatus != 0 {
			w.WriteHeader(s.TokenStatus)
			_, _ = io.WriteString(w, `{"error":"invalid","error_description":"secret"}`)
			return
		}
		fmt.Fprintf(w, `{"access_token":%q,"expires_on":"%d","resource":%q,"token_type":"Bearer"}`, s.Token, time.Now().Add(s.TokenTime).Unix(), r.URL.Query().Get("resource"))
		return
	}
	s.Log = append(s.Log, entry(r, body))
	if r.Header.Get("Authorization") != "Bearer "+s.Token {
		refuse(w, &Failure{http.StatusUnauthorized, "ExpiredAuthenticationToken", "The access token expiry UTC time is earlier than current UTC time"})
		return
	}
	if s.Fail != nil {
		if f := s.Fail(r); f != nil {
			refuse(w, f)
			return
		}
	}
	status, m, f := s.answer(w, r, body)
	switch {
	case s.Lose != nil && s.Lose(r):
		panic(http.ErrAbortHandler)
	case f != nil:
		refuse(w, f)
	case m == nil:
		w.WriteHeader(status)
	default:
		text, _ := json.Marshal(m)
		w.WriteHeader(status)
		_, _ = w.Write(text)
	}
}

// entry is a request as the log has it.
func entry(r *http.Request, body []byte) string {
	text := r.Method + " " + r.URL.RequestURI()
	if len(body) > 0 {
		var into any
		_ = json.Unmarshal(body, &into)
		sorted, _ := json.Marshal(into)
		text += "\n    " + string(sorted)
	}
	return text
}

func failure(f *Failure) map[string]any {
	return map[string]any{"error": map[string]string{"code": f.Code, "message": f.Text}}
}

func refuse(w http.ResponseWriter, f *Failure) {
	if f.Code != "" {
		w.Header().Set("X-Ms-Error-Code", f.Code)
	}
	w.WriteHeader(f.Status)
	text, _ := json.Marshal(failure(f))
	_, _ = w.Write(text)
}

func absent(what string) *Failure {
	return &Failure{http.StatusNotFound, "ResourceNotFound", "The Resource '" + what + "' under resource group '" + Group + "' was not found."}
}

// answer does what a request asks for.
func (s *Server) answer(w http.ResponseWriter, r *http.Request, body []byte) (int, any, *Failure) {
	if id, is := strings.CutPrefix(r.URL.Path, "/operations/"); is && s.operations[id] != nil {
		return http.StatusOK, s.poll(s.operations[id]), nil
	}
	rest, ours := strings.CutPrefix(r.URL.Path, inGroup)
	if !ours {
		return 0, nil, &Failure{http.StatusNotFound, "ResourceGroupNotFound", "Resource group could not be found."}
	}
	words := strings.Split(rest, "/")
	name := ""
	if len(words) > 1 {
		name = words[1]
	}
	switch r.Method + " " + words[0] + strings.Join(words[min(len(words), 2):], "/") {
	case "GET virtualMachines":
		if m := s.machines[name]; m != nil {
			return http.StatusOK, m, nil
		}
	case "GET disks":
		if d := s.disks[name]; d != nil {
			return http.StatusOK, d, nil
		}
	case "GET snapshots":
		if name == "" {
			return http.StatusOK, s.list(r), nil
		}
		if one := s.snapshots[name]; one != nil {
			s.look(one)
			return http.StatusOK, one, nil
		}
	case "PUT snapshots":
		return s.makeSnapshot(w, r, name, body)
	case "DELETE snapshots":
		if s.snapshots[name] == nil {
			return http.StatusNoContent, nil, nil
		}
		delete(s.snapshots, name)
		s.operation(w, "", nil)
		return http.StatusAccepted, nil, nil
	case "PUT disks":
		return s.makeDisk(w, name, body)
	case "POST virtualMachinesattachDetachDataDisks":
		return s.attachDisks(w, name, body)
	default:
		return 0, nil, &Failure{http.StatusNotImplemented, "NotImplemented", r.URL.Path + " is not served here"}
	}
	return 0, nil, absent(rest)
}

// operation files one, and tells where it can be looked at.
func (s *Server) operation(w http.ResponseWriter, target string, bad *Failure) {
	id := strconv.Itoa(len(s.operations) + 1)
	s.operations[id] = &running{target: target, failed: bad}
	w.Header().Set("Azure-AsyncOperation", s.URL+"/operations/"+id+"?api-version=2025-01-02")
	w.Header().Set("Location", s.URL+"/operations/"+id+"?monitor=true")
}

func (s *Server) poll(o *running) map[string]any {
	if o.looks++; o.looks <= s.Creating {
		return map[string]any{"status": "InProgress"}
	}
	one := s.snapshots[o.target]
	if o.failed != nil {
		if one != nil {
			one.Properties.ProvisioningState = to.Ptr("Failed")
		}
		out := failure(o.failed)
		out["status"] = "Failed"
		return out
	}
	if one != nil && *one.Properties.ProvisioningState == "Creating" {
		one.Properties.ProvisioningState = to.Ptr("Succeeded")
	}
	return map[string]any{"status": "Succeeded"}
}

// look moves the copy of a snapshot on.
func (s *Server) look(one *armcompute.Snapshot) {
	p := one.Properties
	if *p.ProvisioningState == "Succeeded" && p.CompletionPercent != nil && *p.CompletionPercent < 100 {
		*p.CompletionPercent = min(100, *p.CompletionPercent+100/float32(s.Copying+1))
	}
}

func (s *Server) makeSnapshot(w http.ResponseWriter, r *http.Request, name string, body []byte) (int, any, *Failure) {
	one := &armcompute.Snapshot{}
	if err := json.Unmarshal(body, one); err != nil || one.Properties == nil || one.Properties.CreationData == nil || one.Properties.CreationData.SourceResourceID == nil {
		return 0, nil, &Failure{http.StatusBadRequest, "InvalidParameter", "Required parameter 'creationData' is missing (null)."}
	}
	disk := path.Base(*one.Properties.CreationData.SourceResourceID)
	if s.disks[disk] == nil {
		return 0, nil, absent(disk)
	}
	one.Name, one.ID = &name, to.Ptr(r.URL.Path)
	one.Properties.ProvisioningState = to.Ptr("Creating")
	if s.Copying > 0 {
		one.Properties.CompletionPercent = to.Ptr(float32(0))
	}
	s.snapshots[name] = one
	var bad *Failure
	if f, breaks := s.Breaks[disk]; breaks {
		bad = &f
	}
	s.operation(w, name, bad)
	if s.Creating == 0 && bad == nil {
		one.Properties.ProvisioningState = to.Ptr("Succeeded")
	}
	return http.StatusAccepted, one, nil
}

func (s *Server) list(r *http.Request) armcompute.SnapshotList {
	from, _ := strconv.Atoi(r.URL.Query().Get("$skiptoken"))
	out := armcompute.SnapshotList{Value: []*armcompute.Snapshot{}}
	for i, name := range slices.Sorted(maps.Keys(s.snapshots)) {
		if i < from {
			continue
		}
		if s.PageSize > 0 && i == from+s.PageSize {
			out.NextLink = to.Ptr(s.URL + inGroup + "snapshots?api-version=2025-01-02&$skiptoken=" + strconv.Itoa(i))
			break
		}
		for _, o := range s.operations { // they go on although nobody asks for them
			if o.target == name && *s.snapshots[name].Properties.ProvisioningState == "Creating" {
				s.poll(o)
			}
		}
		s.look(s.snapshots[name])
		out.Value = append(out.Value, s.snapshots[name])
	}
	return out
}

func (s *Server) makeDisk(w http.ResponseWriter, name string, body []byte) (int, any, *Failure) {
	d := &armcompute.Disk{}
	if err := json.Unmarshal(body, d); err != nil {
		return 0, nil, &Failure{http.StatusBadRequest, "InvalidParameter", err.Error()}
	}
	if from := path.Base(*d.Properties.CreationData.SourceResourceID); s.snapshots[from] == nil {
		return 0, nil, absent(from)
	}
	d.Name, d.ID = &name, to.Ptr(inGroup+"disks/"+name)
	s.disks[name] = d
	s.operation(w, "", nil)
	return http.StatusAccepted, d, nil
}

func (s *Server) attachDisks(w http.ResponseWriter, machine string, body []byte) (int, any, *Failure) {
	var asked armcompute.AttachDetachDataDisksRequest
	if err := json.Unmarshal(body, &asked); err != nil || s.machines[machine] == nil {
		return 0, nil, absent(machine)
	}
	for _, d := range asked.DataDisksToAttach {
		name := path.Base(*d.DiskID)
		if s.disks[name] == nil {
			return 0, nil, absent(name)
		}
		for _, has := range s.machines[machine].Properties.StorageProfile.DataDisks {
			if *has.Lun == *d.Lun {
				return 0, nil, &Failure{http.StatusConflict, "InvalidParameter", "A disk at this LUN already exists"}
			}
		}
		s.attach(machine, name, *d.Lun)
	}
	s.operation(w, "", nil)
	return http.StatusAccepted, nil, nil
}
