package pgtest

import (
	"fmt"
	"os"
	"os/user"
	"strconv"
)

// account is the operating-system user the servers run as. The zero value is the user of this process.
type account struct {
	name     string
	uid, gid uint32
	groups   []uint32
	home     string
	switched bool // this process is root and the servers run as somebody else
}

// findAccount picks the user for the servers: the current one, unless that is root, for PostgreSQL refuses to run as
// root; then name, or postgres, or nobody. Supplementary groups are looked up, for a directory may be open only to them.
func findAccount(name string) (account, error) {
	if os.Geteuid() != 0 {
		home, err := os.UserHomeDir()
		if err != nil {
			home = os.TempDir()
		}
		return account{home: home}, nil
	}
	candidates := []string{"postgres", "nobody"}
	if name != "" {
		candidates = []string{name}
	}
	for _, candidate := range candidates {
		u, err := user.Lookup(candidate)
		if err != nil {
			continue
		}
		a, err := accountOf(u)
		if err != nil {
			return account{}, fmt.Errorf("account %s: %w", candidate, err)
		}
		if a.uid == 0 {
			return account{}, fmt.Errorf("account %s is root: PostgreSQL refuses to run as root", candidate)
		}
		return a, nil
	}
	return account{}, fmt.Errorf("no account among %q exists: PostgreSQL cannot run as root", candidates)
}

// accountOf turns what the user database says into numbers.
func accountOf(u *user.User) (account, error) {
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return account{}, fmt.Errorf("user id: %w", err)
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		return account{}, fmt.Errorf("group id: %w", err)
	}
	a := account{name: u.Username, uid: uint32(uid), gid: uint32(gid), home: u.HomeDir, switched: true}
	groups, err := u.GroupIds()
	if err != nil {
		return account{}, fmt.Errorf("groups: %w", err)
	}
	for _, group := range groups {
		id, err := strconv.ParseUint(group, 10, 32)
		if err != nil {
			return account{}, fmt.Errorf("group id: %w", err)
		}
		a.groups = append(a.groups, uint32(id))
	}
	return a, nil
}

// own hands a file or directory to the account. Without a change of user it does nothing.
func (a account) own(path string) error {
	if !a.switched {
		return nil
	}
	return os.Chown(path, int(a.uid), int(a.gid))
}

// makeDir creates a directory that belongs to the account and is closed to everybody else, as PostgreSQL demands.
func (a account) makeDir(path string) error {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return err
	}
	return a.own(path)
}

// writeFile writes a file that belongs to the account and is closed to everybody else.
func (a account) writeFile(path, content string) error {
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		return err
	}
	return a.own(path)
}
