package main

import (
	"context"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-pg/holdfast/internal/bucket"
	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/objstore"
	"github.com/holdfast-pg/holdfast/internal/objstore/drivers"
	"github.com/holdfast-pg/holdfast/internal/restoreplan"
)

// fromHelp is what the help of every command with --from says.
const fromHelp = `
With --from URL the backups are those below URL/SERVER in an object store, whoever put
them there, in Barman's layout: URL is what barman-cloud-backup is given before the name
of the server, or basebackups_directory. No configuration is read, nor needed; credentials
come from the environment and the files of the provider, such as ~/.aws/credentials.`

// from says which store a command works on instead of a catalogue of the configuration.
type from struct{ url, endpoint, style string }

// fromFlags adds the options to a command, and refuses those that make no sense together.
func (a *app) fromFlags(cmd *cobra.Command, o *from) {
	f := cmd.Flags()
	f.StringVar(&o.url, "from", "", "work on what is below this `URL`/SERVER in an object store; no configuration is needed")
	f.StringVar(&o.endpoint, "endpoint-url", "", "with --from: `address` of a store that is not the provider's own (default: AWS_ENDPOINT_URL)")
	f.StringVar(&o.style, "addressing-style", "", "with --from: `how` S3 requests name the bucket: auto, path or virtual")
	offer(cmd, "addressing-style", addressingStyles...)
	cmd.PreRunE = func(cmd *cobra.Command, _ []string) error {
		if cmd.Flags().Changed("from") {
			if o.url == "" {
				return fault.New(fault.Usage, "", "", "--from has no URL").WithHint("give one, such as s3://BUCKET/PATH or file:///DIRECTORY")
			}
			a.from = o.url
			return nil
		}
		for _, option := range []string{"endpoint-url", "addressing-style"} {
			if cmd.Flags().Changed(option) {
				return fault.New(fault.Usage, "", "", "--%s belongs to --from", option).WithHint("add --from URL, or leave it out")
			}
		}
		return nil
	}
}

func (o from) given() bool { return o.url != "" }

// transferPatience is for how long the transfer of a backup bears with a store that does not answer.
const transferPatience = 10 * time.Minute

// location reads the options.
func (o from) location() (objstore.Location, config.CloudOptions, error) {
	options := config.CloudOptions{HoldfastEndpointURL: o.endpoint, HoldfastS3AddressingStyle: o.style}
	at, err := objstore.ParseURL(o.url)
	if err == nil && o.style != "" && !slices.Contains(addressingStyles, o.style) {
		err = fault.New(fault.Usage, "read", "--addressing-style "+o.style, "it is auto, path or virtual")
	}
	return at, options, err
}

// open opens the store.
func (o from) open(ctx context.Context, patience time.Duration) (objstore.Store, objstore.Location, error) {
	at, options, err := o.location()
	if err != nil {
		return nil, at, err
	}
	store, err := drivers.Open(ctx, at, options, &objstore.Policy{Patience: patience})
	return store, at, err
}

// server is what fetching WAL needs to know of a server whose WAL is in the store.
func (o from) server(name string) (*config.Server, error) {
	_, options, err := o.location()
	if err == nil {
		err = bucket.CheckServer(name)
	}
	if err != nil {
		return nil, err
	}
	s := &config.Server{Name: name}
	s.WALsDirectory, s.WALsCloud, s.CloudOptions = o.url, &config.CloudURL{URL: o.url}, options
	s.CloudWALRestoreParallel = jobsFrom
	return s, nil
}

// flags are those of a command that is to work on the same store, for a shell.
func (o from) flags() string {
	words := "--from " + restoreplan.ShellWord(o.url)
	if o.endpoint != "" {
		words += " --endpoint-url " + restoreplan.ShellWord(o.endpoint)
	}
	if o.style != "" {
		words += " --addressing-style " + restoreplan.ShellWord(o.style)
	}
	return words
}

// bucket opens what the store has of a server.
func (o from) bucket(ctx context.Context, server string, patience time.Duration) (*bucket.Bucket, error) {
	store, at, err := o.open(ctx, patience)
	if err != nil {
		return nil, err
	}
	return bucket.Open(store, at.String(), server)
}
