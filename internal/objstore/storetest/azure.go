package storetest

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// The account of Azurite, which is the same everywhere and no secret.
const (
	AzureAccount = "devstoreaccount1"
	AzureKey     = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
)

// Azure is an Azurite, which keeps containers of Azure Blob Storage in memory. Its front
// adds what it leaves out: Put Block From URL. For that it reads the source as the URL says,
// so that Azurite looks at its signature. Listings come in pages of 250.
type Azure struct {
	*Front
	Address string // of the account, http://127.0.0.1:PORT/devstoreaccount1
}

// StartAzure starts a server with the given containers.
func StartAzure(t testing.TB, containers ...string) Azure {
	t.Helper()
	at := free(t)
	host, port, err := net.SplitHostPort(at)
	if err != nil {
		t.Fatal(err)
	}
	server := "http://" + at
	launch(t, server, "node", bed("azurite", "node_modules", "azurite", "dist", "src", "blob", "main.js"), "--silent", "--disableTelemetry", "--skipApiVersionCheck",
		"--inMemoryPersistence", "--disableProductStyleUrl", "--blobHost", host, "--blobPort", port)
	a := Azure{Front: newFront(t, server, func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Query().Get("comp") == "block" && r.Header.Get("X-Ms-Copy-Source") != "" {
				if status := fetchSource(r); status != 0 {
					w.WriteHeader(status)
					return
				}
			}
			if query := r.URL.Query(); query.Get("comp") == "list" {
				query.Set("maxresults", "250")
				r.URL.RawQuery = query.Encode()
				if r.Header.Get("Authorization") != "" {
					signAzure(r)
				}
			}
			next.ServeHTTP(w, r)
		})
	})}
	a.Address = a.URL + "/" + AzureAccount
	for _, c := range containers {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, server+"/"+AzureAccount+"/"+c+"?restype=container", nil)
		if err != nil {
			t.Fatal(err)
		}
		signAzure(req)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusCreated {
			t.Fatalf("the container %s: %s", c, resp.Status)
		}
	}
	return a
}

// fetchSource makes of a request that names a source one that has its content; it yields the
// status of the source when that cannot be read.
func fetchSource(r *http.Request) int {
	req, err := http.NewRequestWithContext(r.Context(), http.MethodGet, r.Header.Get("X-Ms-Copy-Source"), nil)
	if err != nil {
		return http.StatusBadRequest
	}
	req.Header.Set("X-Ms-Range", r.Header.Get("X-Ms-Source-Range"))
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return http.StatusBadGateway
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		return http.StatusBadGateway
	}
	if resp.StatusCode >= 300 {
		return resp.StatusCode
	}
	for _, name := range []string{"X-Ms-Copy-Source", "X-Ms-Source-Range"} {
		r.Header.Del(name)
	}
	r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(data)), int64(len(data))
	signAzure(r)
	return 0
}

// signAzure signs a request without conditions with the key of the account.
func signAzure(r *http.Request) {
	r.Header.Set("X-Ms-Date", time.Now().UTC().Format(http.TimeFormat))
	r.Header.Set("X-Ms-Version", "2021-12-02")
	length := ""
	if r.ContentLength > 0 {
		length = strconv.FormatInt(r.ContentLength, 10)
	}
	text := r.Method + "\n\n\n" + length + "\n" + r.Header.Get("Content-Md5") + "\n" + r.Header.Get("Content-Type") + "\n\n\n\n\n\n\n"
	for _, name := range slices.Sorted(maps.Keys(r.Header)) {
		if strings.HasPrefix(name, "X-Ms-") {
			text += strings.ToLower(name) + ":" + r.Header.Get(name) + "\n"
		}
	}
	text += "/" + AzureAccount + r.URL.EscapedPath()
	query := r.URL.Query()
	for _, name := range slices.Sorted(maps.Keys(query)) {
		text += "\n" + name + ":" + query.Get(name)
	}
	key, _ := base64.StdEncoding.DecodeString(AzureKey)
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(text))
	r.Header.Set("Authorization", "SharedKey "+AzureAccount+":"+base64.StdEncoding.EncodeToString(mac.Sum(nil)))
}

// ConnectionString is that of the account.
func (a Azure) ConnectionString() string {
	return "DefaultEndpointsProtocol=http;AccountName=" + AzureAccount + ";AccountKey=" + AzureKey + ";BlobEndpoint=" + a.Address
}

// SAS is a signature for all of a container, for an hour.
func (a Azure) SAS(container string) string {
	const version = "2021-12-02"
	end := time.Now().Add(time.Hour).UTC().Format("2006-01-02T15:04:05Z")
	text := "racwdl\n\n" + end + "\n/blob/" + AzureAccount + "/" + container + "\n\n\n\n" + version + "\nc\n\n\n\n\n\n\n"
	key, _ := base64.StdEncoding.DecodeString(AzureKey)
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(text))
	return url.Values{"sp": {"racwdl"}, "se": {end}, "sv": {version}, "sr": {"c"}, "sig": {base64.StdEncoding.EncodeToString(mac.Sum(nil))}}.Encode()
}

// Environment are the variables of a program that uses the server.
func (a Azure) Environment() map[string]string {
	return map[string]string{"AZURE_STORAGE_CONNECTION_STRING": a.ConnectionString(), "AZURE_STORAGE_SAS_TOKEN": "", "AZURE_STORAGE_KEY": ""}
}

// Setenv makes them those of the test.
func (a Azure) Setenv(t *testing.T) {
	t.Helper()
	for name, value := range a.Environment() {
		t.Setenv(name, value)
	}
}
