package docker

import (
	"encoding/json"
	"net"
	"net/netip"
	"strings"
	"testing"

	api "github.com/moby/moby/api/types/container"
)

// box is a container of the tests.
func box(name string, change ...func(c *container)) container {
	c := container{
		id: "id-" + name, name: name, created: 1, labels: map[string]string{labelCluster: "main"},
		networks: map[string]netip.Addr{},
	}
	for _, f := range change {
		f(&c)
	}
	return c
}

func in(network, ip string) func(c *container) {
	return func(c *container) { c.networks[network], _ = netip.ParseAddr(ip) }
}

func label(key, value string) func(c *container) {
	return func(c *container) { c.labels[key] = value }
}

func port(host string, private, public uint16) func(c *container) {
	return func(c *container) {
		ip, _ := netip.ParseAddr(host)
		c.ports = append(c.ports, publication{host: ip, private: private, public: public})
	}
}

func hostNetwork(c *container) {
	c.hostNetwork = true
	c.networks["host"] = netip.Addr{}
}

func TestWhereAContainerIsReached(t *testing.T) {
	ourselves := box("balancer", in("front", "10.1.0.9"), in("db", "10.2.0.9"), label(labelCluster, ""))
	for name, c := range map[string]struct {
		use     func(s *selection)
		box     container
		want    string
		trouble string
	}{
		"the only network":              {nil, box("pg", in("db", "10.2.0.1")), "pg=10.2.0.1:5432", ""},
		"an IPv6 network":               {nil, box("pg", in("db", "fd00::1")), "pg=[fd00::1]:5432", ""},
		"two networks and no choice":    {nil, box("pg", in("db", "10.2.0.1"), in("x", "10.3.0.1")), "", "[db x]: say which to use with network"},
		"the network that is named":     {func(s *selection) { s.network = "x" }, box("pg", in("db", "10.2.0.1"), in("x", "10.3.0.1")), "pg=10.3.0.1:5432", ""},
		"a network of a compose file":   {func(s *selection) { s.network = "db" }, box("pg", in("shop_db", "10.2.0.1"), label(composeProject, "shop")), "pg=10.2.0.1:5432", ""},
		"one of another compose file":   {func(s *selection) { s.network = "db" }, box("pg", in("shop_db", "10.2.0.1"), label(composeProject, "bar")), "", "not in network db but in [shop_db]"},
		"a network it is not in":        {func(s *selection) { s.network = "y" }, box("pg", in("db", "10.2.0.1")), "", "not in network y but in [db]: connect it"},
		"the one shared with us":        {func(s *selection) { s.own = ourselves.id }, box("pg", in("db", "10.2.0.1"), in("a", "10.3.0.1")), "pg=10.2.0.1:5432", ""},
		"none shared with us":           {func(s *selection) { s.own = ourselves.id }, box("pg", in("a", "10.3.0.1")), "", "shares no network with this container, it is in [a]: connect both"},
		"no network at all":             {nil, box("pg"), "", "has no network: connect it"},
		"a network without an address":  {nil, box("pg", in("db", "")), "", "no address in network db"},
		"the machine's network":         {nil, box("pg", hostNetwork), "", "write published"},
		"a port of a label":             {nil, box("pg", in("db", "10.2.0.1"), label(labelPort, "6000")), "pg=10.2.0.1:6000", ""},
		"port 0 of a label":             {nil, box("pg", in("db", "10.2.0.1"), label(labelPort, "0")), "", "1 to 65535"},
		"a name of a label":             {nil, box("pg", in("db", "10.2.0.1"), label(labelName, "east")), "east=10.2.0.1:5432", ""},
		"an empty name":                 {nil, box("pg", in("db", "10.2.0.1"), label(labelName, "")), "", `fairway.name is ""`},
		"a name that is too long":       {nil, box("pg", in("db", "10.2.0.1"), label(labelName, strings.Repeat("x", 129))), "", "write up to 128"},
		"a weight of 0":                 {nil, box("pg", in("db", "10.2.0.1"), label(labelWeight, "0")), "pg=10.2.0.1:5432", "taken for 1"},
		"a weight that is no number":    {nil, box("pg", in("db", "10.2.0.1"), label(labelWeight, "NaN")), "pg=10.2.0.1:5432", "taken for 1"},
		"an endless weight":             {nil, box("pg", in("db", "10.2.0.1"), label(labelWeight, "+Inf")), "pg=10.2.0.1:5432", "taken for 1"},
		"a priority":                    {nil, box("pg", in("db", "10.2.0.1"), label(labelPriority, "3")), "pg=10.2.0.1:5432^3", ""},
		"a wrong priority":              {nil, box("pg", in("db", "10.2.0.1"), label(labelPriority, "first")), "pg=10.2.0.1:5432", "taken for 0"},
		"a drain":                       {nil, box("pg", in("db", "10.2.0.1"), label(labelDrain, "true")), "pg=10.2.0.1:5432 drained", ""},
		"published on all addresses":    {published(""), box("pg", port("0.0.0.0", 5432, 7001)), "pg=127.0.0.1:7001", ""},
		"published, IPv4 before IPv6":   {published(""), box("pg", port("::", 5432, 7002), port("0.0.0.0", 5432, 7001)), "pg=127.0.0.1:7001", ""},
		"published on one address":      {published(""), box("pg", port("192.0.2.7", 5432, 7001)), "pg=192.0.2.7:7001", ""},
		"published at a remote engine":  {published("docker7"), box("pg", port("0.0.0.0", 5432, 7001)), "pg=docker7:7001", ""},
		"published on a far loopback":   {published("docker7"), box("pg", port("127.0.0.1", 5432, 7001)), "", "published where it cannot be reached from here"},
		"another port is published":     {published(""), box("pg", port("0.0.0.0", 8080, 80)), "", "port 5432 is not published: publish it"},
		"published, machine's network":  {published(""), box("pg", hostNetwork), "pg=127.0.0.1:5432", ""},
		"published, labels choose":      {published(""), box("pg", port("0.0.0.0", 6000, 7001), label(labelPort, "6000")), "pg=127.0.0.1:7001", ""},
		"another cluster's":             {nil, box("pg", in("db", "10.2.0.1"), label(labelCluster, "other")), "", ""},
		"sick from the start":           {nil, box("pg", in("db", "10.2.0.1"), func(c *container) { c.health, c.sick = healthBad, true }), "", ""},
		"sick, but that is ignored":     {func(s *selection) { s.health = healthIgnore }, box("pg", in("db", "10.2.0.1"), func(c *container) { c.sick = true }), "pg=10.2.0.1:5432", ""},
		"starting, but must be healthy": {func(s *selection) { s.health = healthRequire }, box("pg", in("db", "10.2.0.1"), func(c *container) { c.health = healthStarting }), "", ""},
		"a label that must be there":    {func(s *selection) { s.labels = []labelMatch{{key: "tier", any: true}} }, box("pg", in("db", "10.2.0.1"), label("tier", "x")), "pg=10.2.0.1:5432", ""},
		"a label that is not there":     {func(s *selection) { s.labels = []labelMatch{{key: "tier", any: true}} }, box("pg", in("db", "10.2.0.1")), "", ""},
	} {
		s := &selection{labels: []labelMatch{{key: labelCluster, value: "main"}}, port: 5432, host: "127.0.0.1"}
		if c.use != nil {
			c.use(s)
		}
		endpoints, problems, left := s.choose([]container{ourselves, c.box})
		if got := words(endpoints); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
		told := ""
		for _, p := range problems {
			told += p.container + ": " + p.text + "\n"
		}
		if (c.trouble == "") != (told == "") || !strings.Contains(told, c.trouble) || (told != "" && !strings.HasPrefix(told, "pg: ")) {
			t.Errorf("%s: told is %q, want %q", name, told, c.trouble)
		}
		if wantLeft := c.trouble != "" && c.want == ""; wantLeft != (left == 1) {
			t.Errorf("%s: %d left out", name, left)
		}
	}
}

func published(host string) func(s *selection) {
	return func(s *selection) {
		if s.published = true; host != "" {
			s.host = host
		}
	}
}

func TestTheOldestContainerKeepsAName(t *testing.T) {
	s := &selection{port: 5432}
	older := box("b", in("db", "10.0.0.2"), label(labelName, "pg"), func(c *container) { c.created = 5 })
	younger := box("a", in("db", "10.0.0.1"), label(labelName, "pg"), func(c *container) { c.created = 6 })
	for _, all := range [][]container{{older, younger}, {younger, older}} {
		endpoints, problems, left := s.choose(all)
		if got := words(endpoints); got != "pg=10.0.0.2:5432" || len(problems) != 1 || problems[0].container != "a" || left != 1 {
			t.Errorf("%q, %v", got, problems)
		}
	}
}

func TestOurOwnContainerIsKnownByItsMounts(t *testing.T) {
	id := strings.Repeat("0123456789abcdef", 4)
	for want, lines := range map[string][]string{
		id: {
			"1 2 0:1 / / rw - overlay overlay rw",
			"3 2 8:1 /var/lib/docker/containers/" + id + "/resolv.conf /etc/resolv.conf rw - ext4 /dev/sda1 rw",
		},
		"": { // the engine's own machine sees the mounts of all its containers
			"3 2 0:9 / /var/lib/docker/containers/" + id + "/mounts/shm rw - tmpfs shm rw",
			"4 2 8:1 /etc/hostname /etc/hostname rw - ext4 /dev/sda1 rw", "garbage", "",
		},
	} {
		if got := ownFrom(lines); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestPublishedPortsAreOnTheEnginesMachine(t *testing.T) {
	for host, want := range map[string]string{
		"unix:///var/run/docker.sock": "127.0.0.1", "tcp://10.0.0.7:2376": "10.0.0.7", "tcp://[fd00::7]:2376": "fd00::7",
		"npipe:////./pipe/docker_engine": "127.0.0.1",
	} {
		if got := (&engineSettings{host: host}).machine(); got != want {
			t.Errorf("%s: %s, want %s", host, got, want)
		}
	}
}

// FuzzContainers reads what an engine might list: nothing of it may do more than leave a container out.
func FuzzContainers(f *testing.F) {
	f.Add(`[{"Id":"a","Names":["/pg1","/x/y"],"Labels":{"fairway.cluster":"main","fairway.port":"1"},"Status":"Up (healthy)"}]`, "db")
	f.Add(`[{"Id":"a","NetworkSettings":{"Networks":{"db":null,"x":{"IPAddress":"10.0.0.1"}}},"Ports":[{"IP":"::","PrivatePort":5432,"PublicPort":1,"Type":"tcp"}]}]`, "")
	f.Fuzz(func(t *testing.T, list, network string) {
		var all []api.Summary
		if json.Unmarshal([]byte(list), &all) != nil {
			return
		}
		var containers []container
		for i := range all {
			containers = append(containers, read(&all[i]))
		}
		for _, published := range []bool{false, true} {
			s := &selection{network: network, port: 5432, published: published, host: "127.0.0.1"}
			endpoints, _, left := s.choose(containers)
			if len(endpoints)+left > len(containers) {
				t.Errorf("%d endpoints and %d left out of %d containers", len(endpoints), left, len(containers))
			}
			seen := make(map[string]bool)
			for _, e := range endpoints {
				if _, _, err := net.SplitHostPort(e.Address); err != nil || seen[e.Name] || e.Name == "" || e.Weight < 0 {
					t.Errorf("endpoint %+v, %v", e, err)
				}
				seen[e.Name] = true
			}
		}
	})
}
