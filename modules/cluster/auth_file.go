package cluster

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/fairwaydb/fairway/modules/pgauth"
)

// Times of the file of users: how often a login looks whether it has changed, and how
// old a file is whose time stamp would show one more change.
const (
	fileLook   = time.Second
	fileSettle = 2 * time.Second
)

// maxFile bounds the file of users, in bytes: some hundred thousand users.
const maxFile = 64 << 20

// userFile is a file of users: auth file. It is read when the configuration is loaded
// and again when it has changed; what cannot be read then leaves the last good list in
// force.
type userFile struct {
	path   string
	method AuthMethod
	list   atomic.Pointer[fileList] // never nil

	mu struct {
		sync.Mutex
		reading bool   // somebody looks at the file just now
		looked  Mark   // when it was last looked at
		broken  string // why it could not be read, told once; "": it could
	}
}

// fileList is what a file said. It is never changed.
type fileList struct {
	users   map[string]*fileUser
	usual   Usual
	plain   bool // every user has a password
	info    os.FileInfo
	settled bool // a later change would show in info
}

// fileUser is a line of the file. What a password is checked with is made at the first
// login: it takes a millisecond.
type fileUser struct {
	written  string
	password string
	kept     pgauth.Stored
	derived  func() pgauth.Stored // nil unless there is a password
}

// stored returns what to check the user's password with.
func (u *fileUser) stored() pgauth.Stored {
	if u.derived != nil {
		return u.derived()
	}
	return u.kept
}

// openUserFile reads the file for the first time.
func openUserFile(path string, method AuthMethod) (*userFile, error) {
	f := &userFile{path: path, method: method}
	list, err := f.read()
	if err != nil {
		return nil, err
	}
	f.list.Store(list)
	f.mu.looked = Now()
	return f, nil
}

// refresh reads the file again if it has changed; it looks once a second. Who comes
// while it is read goes by the list before.
func (f *userFile) refresh(c *Cluster) {
	f.mu.Lock()
	idle := !f.mu.reading && f.mu.looked.Since() >= fileLook
	f.mu.reading = f.mu.reading || idle
	f.mu.Unlock()
	if !idle {
		return
	}
	before := f.list.Load()
	info, err := os.Stat(f.path)
	if err != nil || !before.settled || !unchanged(info, before.info) {
		f.reread(c, before)
	}
	f.mu.Lock()
	f.mu.reading, f.mu.looked = false, Now()
	f.mu.Unlock()
}

// reread replaces the list by what the file says now, or tells once why not.
func (f *userFile) reread(c *Cluster, before *fileList) {
	list, err := f.read()
	reason := ""
	if err != nil {
		reason = err.Error()
	}
	f.mu.Lock()
	news := reason != f.mu.broken
	f.mu.broken = reason
	f.mu.Unlock()
	switch {
	case err != nil && news:
		c.logger().Error("auth file cannot be used: the last good list stays in force", zap.String("cluster", c.name), zap.Error(err))
	case err == nil && news:
		c.logger().Info("auth file can be used again", zap.String("cluster", c.name))
	}
	if err != nil {
		return
	}
	f.list.Store(list)
	for name, u := range before.users {
		if now := list.users[name]; now == nil || now.written != u.written {
			c.secrets.forget(name)
		}
	}
}

// unchanged tells whether a file is the one that was read.
func unchanged(now, then os.FileInfo) bool {
	return os.SameFile(now, then) && now.ModTime().Equal(then.ModTime()) && now.Size() == then.Size()
}

// read reads the file. It counts as unsettled when it is so young that one more change
// might leave its time stamp as it is.
func (f *userFile) read() (*fileList, error) {
	info, err := os.Stat(f.path)
	switch {
	case err != nil:
		return nil, unreadable(err)
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%s is no file", f.path)
	case info.Size() > maxFile:
		return nil, fmt.Errorf("%s has %d bytes: more than %d are not read", f.path, info.Size(), maxFile)
	case info.Mode().Perm()&0o002 != 0:
		return nil, fmt.Errorf("%s can be written by everybody: chmod 600", f.path)
	}
	text, err := os.ReadFile(f.path)
	if err != nil {
		return nil, unreadable(err)
	}
	defer clear(text)
	lines, err := parseUserFile(text, f.method)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.path, err)
	}
	list := &fileList{users: make(map[string]*fileUser, len(lines)), plain: true, info: info, settled: time.Since(info.ModTime()) > fileSettle}
	secret := false
	for i := range lines {
		u := &lines[i].fileUser
		list.users[lines[i].name] = u
		list.usual = usualOf(u.kept, list.usual)
		list.plain = list.plain && u.password != ""
		secret = secret || u.password != "" || u.kept.MD5 != ""
	}
	if secret && info.Mode().Perm()&0o004 != 0 {
		return nil, fmt.Errorf("%s has passwords or md5 hashes and can be read by everybody: chmod 600", f.path)
	}
	for _, u := range list.users {
		if u.password != "" {
			u.derived = sync.OnceValue(func() pgauth.Stored {
				return pgauth.Stored{SCRAM: pgauth.NewVerifier(u.password, nil, list.usual.Iterations)}
			})
		}
	}
	return list, nil
}

func unreadable(err error) error {
	return fmt.Errorf("%w: write the path of a file that is there and may be read", err)
}

// credential returns what to check the user's password with.
func (f *userFile) credential(user string) Credential {
	list := f.list.Load()
	found := Credential{Usual: list.usual}
	if u := list.users[user]; u != nil {
		found.Stored = u.stored()
	}
	return found
}

// secret returns what logs the user in at servers without a proof.
func (f *userFile) secret(user string) pgauth.Secret {
	if u := f.list.Load().users[user]; u != nil {
		return pgauth.Secret{Password: u.password, MD5: u.kept.MD5}
	}
	return pgauth.Secret{}
}

// fileLine is a user with a name.
type fileLine struct {
	name string
	fileUser
}

// parseUserFile reads lines of "user" "password": two texts in double quotes, a quote
// inside doubled. Empty lines and those that begin with ; or # are left out. The errors
// name the line and show nothing of it.
func parseUserFile(text []byte, method AuthMethod) ([]fileLine, error) {
	var list []fileLine
	seen := make(map[string]bool)
	for i, line := range bytes.Split(text, []byte{'\n'}) {
		rest := strings.TrimSpace(string(line))
		if rest == "" || rest[0] == ';' || rest[0] == '#' {
			continue
		}
		u, err := parseUser(rest, method)
		if err == nil && seen[u.name] {
			err = fmt.Errorf("user %q is there twice: remove one of the lines", u.name)
		}
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", i+1, err)
		}
		seen[u.name] = true
		list = append(list, u)
	}
	if len(list) == 0 {
		return nil, errors.New("no users: write lines such as \"alice\" \"SCRAM-SHA-256$…\"")
	}
	return list, nil
}

func parseUser(rest string, method AuthMethod) (u fileLine, err error) {
	if u.name, rest, err = cutQuoted(rest); err != nil {
		return u, fmt.Errorf("user: %w", err)
	}
	if u.written, rest, err = cutQuoted(strings.TrimLeft(rest, " \t")); err != nil {
		return u, fmt.Errorf("password: %w", err)
	}
	switch {
	case strings.TrimSpace(rest) != "":
		return u, errors.New("something follows the password: write two texts in double quotes")
	case u.name == "":
		return u, errors.New("the user has no name")
	case u.written == "": // listed, and nobody
		return u, nil
	}
	u.kept, u.password, err = readPassword(u.written, method)
	return u, err
}

// cutQuoted takes a text in double quotes off the front.
func cutQuoted(text string) (value, rest string, err error) {
	if !strings.HasPrefix(text, `"`) {
		return "", "", errors.New("no double quote: write two texts in double quotes")
	}
	var b strings.Builder
	for text = text[1:]; ; {
		before, after, found := strings.Cut(text, `"`)
		if !found {
			return "", "", errors.New("the closing double quote is missing")
		}
		b.WriteString(before)
		if !strings.HasPrefix(after, `"`) {
			return b.String(), after, nil
		}
		b.WriteByte('"')
		text = after[1:]
	}
}

// readPassword tells a verifier from an md5 hash from a password, by its shape. One
// that no client could log in with is an error.
func readPassword(written string, method AuthMethod) (stored pgauth.Stored, password string, err error) {
	stored, err = pgauth.ParseStored(written)
	switch {
	case err != nil && strings.HasPrefix(written, "SCRAM-SHA-256$"):
		return stored, "", err
	case err != nil:
		return pgauth.Stored{}, written, nil
	case stored.MD5 != "" && method == MethodSCRAM:
		return stored, "", errors.New("an md5 hash, and clients are asked for SCRAM: write the SCRAM verifier or the password, or auth { method md5 }")
	case stored.MD5 != "" && !pgauth.MD5Allowed():
		return stored, "", errors.New("an md5 hash, and md5 is not allowed in FIPS-only mode: write the SCRAM verifier or the password")
	}
	return stored, "", nil
}
