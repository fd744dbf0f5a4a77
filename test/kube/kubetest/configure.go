package kubetest

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Where things are inside, in a /run that only the cluster has.
const (
	containerdSocket = "/run/kubetest/containerd.sock"
	bridgeConfig     = `{"cniVersion": "0.4.0", "name": "kubetest", "plugins": [{
	"type": "bridge", "bridge": "kube0", "isGateway": true, "ipMasq": false,
	"ipam": {"type": "host-local", "ranges": [[{"subnet": "10.244.7.0/24"}]], "dataDir": "/run/kubetest/ipam", "routes": [{"dst": "0.0.0.0/0"}]}
}]}
`
)

// containerdConfig lacks the snapshotter, which is chosen inside.
const containerdConfig = `version = 2
root = "@DIR@/containerd"
state = "/run/kubetest/containerd"
disabled_plugins = ["io.containerd.internal.v1.restart"]
[grpc]
  address = "` + containerdSocket + `"
[plugins."io.containerd.internal.v1.opt"]
  path = "@DIR@/opt"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "` + pause + `"
  disable_apparmor = true
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "` + plugins + `"
    conf_dir = "@DIR@/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "@SNAPSHOTTER@"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
`

// kubeletConfig evicts nothing for want of room on this machine. Logs are rotated as everywhere.
const kubeletConfig = `apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
address: ` + nodeIP + `
port: 10250
readOnlyPort: 0
healthzPort: 10248
authentication: {anonymous: {enabled: false}, webhook: {enabled: false}, x509: {clientCAFile: "@DIR@/ca.crt"}}
authorization: {mode: AlwaysAllow}
tlsCertFile: "@DIR@/system:node:` + Node + `.crt"
tlsPrivateKeyFile: "@DIR@/system:node:` + Node + `.key"
containerRuntimeEndpoint: unix://` + containerdSocket + `
cgroupDriver: cgroupfs
cgroupRoot: /@CGROUP@
cgroupsPerQOS: true
failCgroupV1: false
failSwapOn: false
enforceNodeAllocatable: []
localStorageCapacityIsolation: false
makeIPTablesUtilChains: false
resolvConf: ""
podLogsDir: "@DIR@/pods"
volumePluginDir: "@DIR@/volumes"
registerNode: true
maxPods: 110
evictionHard: {memory.available: 1Mi, nodefs.available: 0%, nodefs.inodesFree: 0%, imagefs.available: 0%}
imageGCHighThresholdPercent: 100
nodeStatusUpdateFrequency: 5s
`

// auditConfig keeps who did what.
const auditConfig = `apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- {level: None, userGroups: ["system:masters", "system:nodes"]}
- {level: None, users: ["system:kube-controller-manager", "system:kube-scheduler", "system:apiserver"]}
- {level: None, userGroups: ["system:serviceaccounts:kube-system"]}
- {level: Metadata}
`

// cgroupName is the name of the cluster's control groups.
func cgroupName(dir string) string { return filepath.Base(dir) }

// configure writes what the programs of the node read.
func (c *Cluster) configure() error {
	r := strings.NewReplacer("@DIR@", c.dir, "@CGROUP@", cgroupName(c.dir))
	if err := os.Mkdir(filepath.Join(c.dir, "cni"), 0o700); err != nil {
		return err
	}
	archive, err := images()
	if err != nil {
		return err
	}
	for name, text := range map[string]string{
		"cni/kubetest.conflist": bridgeConfig, "containerd.toml": r.Replace(containerdConfig),
		"kubelet.yaml": r.Replace(kubeletConfig), "audit.yaml": auditConfig, "images.tar": string(archive),
	} {
		if err := os.WriteFile(filepath.Join(c.dir, name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// part is one program of a cluster.
type part struct {
	name string
	argv []string
	// ready is the URL that answers when it serves, a socket's path, or empty.
	ready string
}

// parts are the programs in the order of their start.
func parts(dir, kubebox, snapshotter string) []part {
	at := func(name string) string { return filepath.Join(dir, name) }
	of := func(name string, args ...string) []string { return append([]string{kubebox, name}, args...) }
	client := func(user string) string { return "--kubeconfig=" + at(user+".kubeconfig") }
	const etcd = "http://127.0.0.1:2379"
	const self, manager, scheduler = "kube-apiserver", "kube-controller-manager", "kube-scheduler"
	return []part{
		{"etcd", of("etcd", "--data-dir="+at("etcd"), "--listen-client-urls="+etcd, "--advertise-client-urls="+etcd,
			"--listen-peer-urls=http://127.0.0.1:2380", "--unsafe-no-fsync", "--log-level=warn"), etcd + "/readyz"},
		{self, of(self, "--etcd-servers="+etcd, "--bind-address=0.0.0.0", "--secure-port=6443", "--advertise-address="+nodeIP,
			"--tls-cert-file="+at(self+".crt"), "--tls-private-key-file="+at(self+".key"), "--client-ca-file="+at("ca.crt"),
			"--kubelet-client-certificate="+at(self+".crt"), "--kubelet-client-key="+at(self+".key"),
			"--kubelet-preferred-address-types=InternalIP", "--service-cluster-ip-range=10.0.0.0/24",
			"--service-account-issuer=https://kubernetes.default.svc", "--service-account-key-file="+at("accounts.key"),
			"--service-account-signing-key-file="+at("accounts.key"), "--authorization-mode=Node,RBAC",
			"--audit-policy-file="+at("audit.yaml"), "--audit-log-path="+at("audit.jsonl"), "--audit-log-mode=blocking",
			// Others serve parts of the API; there is nothing here that gives Services addresses.
			"--requestheader-client-ca-file="+at("front-ca.crt"), "--requestheader-allowed-names="+frontUser,
			"--requestheader-username-headers=X-Remote-User", "--requestheader-group-headers=X-Remote-Group",
			"--requestheader-extra-headers-prefix=X-Remote-Extra-", "--enable-aggregator-routing",
			"--proxy-client-cert-file="+at(frontUser+".crt"), "--proxy-client-key-file="+at(frontUser+".key"),
		), "https://" + apiserver + "/readyz"},
		{manager, of(manager, client("system:"+manager), "--leader-elect=false", "--use-service-account-credentials",
			"--service-account-private-key-file="+at("accounts.key"), "--root-ca-file="+at("ca.crt"), "--bind-address=127.0.0.1",
			// A client's rates would bound all, not the machine.
			"--concurrent-job-syncs=20", "--kube-api-qps=1000", "--kube-api-burst=2000",
			// Looks are cheap here, and tests wait for them.
			"--horizontal-pod-autoscaler-sync-period=1s",
			// A lost node is told early.
			"--node-monitor-grace-period=10s", "--node-monitor-period=2s"), ""},
		{scheduler, of(scheduler, client("system:"+scheduler), "--leader-elect=false", "--bind-address=127.0.0.1",
			"--kube-api-qps=1000", "--kube-api-burst=2000"), ""},
		{"containerd", []string{"containerd", "--config", at("containerd.toml")}, containerdSocket},
		importOf(dir, "images.tar", snapshotter),
		{"kubelet", of("kubelet", "--config="+at("kubelet.yaml"), client(nodeUser), "--hostname-override="+Node,
			"--node-ip="+nodeIP, "--root-dir="+at("kubelet"), "--cert-dir="+at("kubelet-pki")), "http://127.0.0.1:10248/healthz"},
	}
}

// importOf has the node take the images of an archive in dir.
func importOf(dir, archive, snapshotter string) part {
	return part{"ctr", []string{
		"ctr", "-a", containerdSocket, "-n", "k8s.io", "images", "import", "--snapshotter", snapshotter, filepath.Join(dir, archive),
	}, ends}
}

// ends is what is ready when it has ended well.
const ends = "ends"

// describe is for errors.
func (p *part) describe(err error) error { return fmt.Errorf("%s: %w", p.name, err) }
