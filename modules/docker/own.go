package docker

import (
	"bufio"
	"os"
	"regexp"
	"strings"
	"sync"
)

// ownContainer returns the ID of the container that this process runs in, empty
// when it runs in none.
var ownContainer = sync.OnceValue(func() string {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return ""
	}
	defer f.Close()
	var lines []string
	for s := bufio.NewScanner(f); s.Scan(); {
		lines = append(lines, s.Text())
	}
	return ownFrom(lines)
})

// ofContainer is the directory that an engine keeps for a container.
var ofContainer = regexp.MustCompile(`/containers/([0-9a-f]{64})/`)

// ownFrom finds the ID in the lines of mountinfo. An engine mounts files of its own
// over some of /etc; the other mounts that name a container are, on the engine's
// machine, those of its containers.
func ownFrom(lines []string) string {
	for _, line := range lines {
		fields := strings.Fields(line) // id, parent, device, root, mount point, …
		if len(fields) < 5 {
			continue
		}
		switch fields[4] {
		case "/etc/hostname", "/etc/hosts", "/etc/resolv.conf":
			if m := ofContainer.FindStringSubmatch(fields[3]); m != nil {
				return m[1]
			}
		}
	}
	return ""
}
