package main

import (
	"fmt"
	"maps"
	"net"
	"os"
	"strconv"
	"time"

	uiserver "github.com/temporalio/ui-server/v2/server"
	uiconfig "github.com/temporalio/ui-server/v2/server/config"
	uioptions "github.com/temporalio/ui-server/v2/server/server_options"
	"go.temporal.io/server/common/authorization"
	"go.temporal.io/server/common/cluster"
	"go.temporal.io/server/common/config"
	"go.temporal.io/server/common/dynamicconfig"
	tlog "go.temporal.io/server/common/log"
	"go.temporal.io/server/common/membership/static"
	"go.temporal.io/server/common/primitives"
	"go.temporal.io/server/temporal"
)

const (
	loopback    = "127.0.0.1"
	clusterName = "active"
)

// newServer assembles the four Temporal services in this process. Only the frontend listens on o.ip.
func newServer(o options, store *config.SQL, logger tlog.Logger) (temporal.Server, error) {
	cfg, err := serverConfig(o, store)
	if err != nil {
		return nil, err
	}
	hosts := map[primitives.ServiceName]static.Hosts{}
	for name, svc := range cfg.Services {
		hosts[primitives.ServiceName(name)] = static.SingleLocalHost(address(dialable(svc.RPC.BindOnIP), svc.RPC.GRPCPort))
	}
	authorizer, err := authorization.GetAuthorizerFromConfig(&cfg.Global.Authorization)
	if err != nil {
		return nil, err
	}
	return temporal.NewServer(
		temporal.WithConfig(cfg),
		temporal.ForServices(temporal.DefaultServices),
		temporal.WithStaticHosts(hosts),
		temporal.WithAuthorizer(authorizer),
		temporal.WithLogger(logger),
		temporal.WithDynamicConfigClient(dynamicConfig(o)),
	)
}

// shardPolls is how often in a second a shard may ask the database for what is to be done.
const shardPolls = 2000

// dynamicConfig fits Temporal's defaults, made for clusters, to one node with one user.
func dynamicConfig(o options) dynamicconfig.Client {
	values := dynamicconfig.StaticClient{
		// A short timer fires when it is due, not up to a second later.
		dynamicconfig.TimerProcessorMaxTimeShift.Key(): 10 * time.Millisecond,
		// Search attributes that a new version adds are known within a second.
		dynamicconfig.NamespaceCacheRefreshInterval.Key(): time.Second,
		// The one shard has all that happens, and would make every step of a workflow that is in
		// a hurry wait for up to 50 ms.
		dynamicconfig.TransferProcessorMaxPollRPS.Key(): shardPolls,
		dynamicconfig.TimerProcessorMaxPollRPS.Key():    shardPolls,
		// One node gains nothing from splitting a task queue.
		dynamicconfig.MatchingNumTaskqueueReadPartitions.Key():  1,
		dynamicconfig.MatchingNumTaskqueueWritePartitions.Key(): 1,
		// Nobody is told that this engine runs.
		dynamicconfig.EnableServerVersionCheck.Key(): false,
	}
	maps.Copy(values, o.dynamic)
	return values
}

func serverConfig(o options, store *config.SQL) (*config.Config, error) {
	ports, err := freePorts(3, o.port)
	if err != nil {
		return nil, err
	}
	cfg := &config.Config{Services: map[string]config.Service{}}
	for i, name := range []string{"history", "matching", "worker"} {
		cfg.Services[name] = service(loopback, ports[i])
	}
	cfg.Services["frontend"] = service(o.ip, o.port)
	frontend := address(dialable(o.ip), o.port)
	cfg.Global.Membership.MaxJoinDuration = 30 * time.Second
	cfg.Global.Membership.BroadcastAddress = loopback
	cfg.Persistence = config.Persistence{
		DefaultStore: "sqlite", VisibilityStore: "sqlite", NumHistoryShards: 1,
		DataStores: map[string]config.DataStore{"sqlite": {SQL: store}},
	}
	cfg.ClusterMetadata = &cluster.Config{
		FailoverVersionIncrement: 10, MasterClusterName: clusterName, CurrentClusterName: clusterName,
		ClusterInformation: map[string]cluster.ClusterInformation{clusterName: {
			Enabled: true, InitialFailoverVersion: 1, RPCAddress: frontend, ClusterID: "6f1d3a52-8c0e-4b7a-9a51-0e5c2b7d4f18",
		}},
	}
	cfg.DCRedirectionPolicy.Policy = "noop"
	cfg.Archival.History.State, cfg.Archival.Visibility.State = "disabled", "disabled"
	cfg.NamespaceDefaults.Archival.History.State, cfg.NamespaceDefaults.Archival.Visibility.State = "disabled", "disabled"
	cfg.PublicClient.HostPort = frontend
	return cfg, nil
}

func service(ip string, port int) (s config.Service) {
	s.RPC.BindOnIP, s.RPC.GRPCPort = ip, port
	return s
}

// newUI serves the Temporal UI on a port of its own.
func newUI(o options) *uiserver.Server {
	return uiserver.NewServer(uioptions.WithConfigProvider(&uiconfig.Config{
		Host: o.ip, Port: o.uiPort, TemporalGRPCAddress: address(dialable(o.ip), o.port),
		EnableUI: true, HideLogs: true, DisableNewsFetch: true,
		DefaultNamespace: o.namespaces[0], CORS: uiconfig.CORS{CookieInsecure: true},
	}))
}

func address(ip string, port int) string { return net.JoinHostPort(ip, strconv.Itoa(port)) }

// dialable turns "every address" into one that can be connected to.
func dialable(ip string) string {
	if net.ParseIP(ip).IsUnspecified() {
		return loopback
	}
	return ip
}

// The ports of the services that talk among themselves: below those that Linux gives to outgoing
// connections, one of which could take a free port before its service listens.
const (
	lowestPort = 30000
	portCount  = 2768
)

// freePorts finds n different ports that nobody listens on, other than one that is spoken for. Each
// process begins its search elsewhere, so that two that start at the same time choose different ones.
func freePorts(n, taken int) ([]int, error) {
	var ports []int
	begin := os.Getpid() * 4
	for i := 0; i < portCount && len(ports) < n; i++ {
		port := lowestPort + (begin+i)%portCount
		if port == taken {
			continue
		}
		l, err := net.Listen("tcp", address(loopback, port))
		if err != nil {
			continue
		}
		l.Close()
		ports = append(ports, port)
	}
	if len(ports) < n {
		return nil, fmt.Errorf("no port from %d to %d is free", lowestPort, lowestPort+portCount-1)
	}
	return ports, nil
}

// claimPorts settles a port that was left open and refuses one that somebody listens on, before
// anything is started.
func claimPorts(o *options) error {
	if o.port == 0 {
		free, err := freePorts(1, 0)
		if err != nil {
			return err
		}
		o.port = free[0]
	}
	for _, p := range []struct {
		option string
		port   int
	}{{"--port", o.port}, {"--ui-port", o.uiPort}} {
		if p.port == 0 {
			continue
		}
		l, err := net.Listen("tcp", address(o.ip, p.port))
		if err != nil {
			return fmt.Errorf("port %d cannot be used: %w: choose another one with %s", p.port, err, p.option)
		}
		if err := l.Close(); err != nil {
			return err
		}
	}
	return nil
}
