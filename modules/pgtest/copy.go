package pgtest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// emptied are the directories of a data directory whose contents a backup must not hold, and left the files.
// See https://www.postgresql.org/docs/current/continuous-archiving.html#BACKUP-LOWLEVEL-BASE-BACKUP-DATA.
var (
	emptied = []string{
		"pg_wal", "pg_replslot", "pg_dynshmem", "pg_notify", "pg_serial", "pg_snapshots", "pg_stat_tmp", "pg_subtrans",
	}
	left = []string{"postmaster.pid", "postmaster.opts", "pg_internal.init", "backup_label", "tablespace_map", "standby.signal"}
)

// copyTo copies the files of a running server to another node's data directory by the low-level backup functions: what
// pg_basebackup does, for installations that come without it. The missing WAL is streamed when the copy starts, which
// needs a slot that was created before.
func (n *Node) copyTo(ctx context.Context, to *Node) error {
	conn, err := n.Connect(ctx, n.c.options.Superuser, "", "postgres")
	if err != nil {
		return err
	}
	defer disconnect(conn) // the backup belongs to this connection and is given up with it
	start, stop := "SELECT pg_backup_start('copy', true)", "SELECT labelfile FROM pg_backup_stop(false)"
	if conn.ParameterStatus("server_version") < "15" { // two digits since version 10
		start = "SELECT pg_start_backup('copy', true, false)"
		stop = "SELECT labelfile FROM pg_stop_backup(false, false)"
	}
	if _, err := query(ctx, conn, start); err != nil {
		return fmt.Errorf("begin backup: %w", err)
	}
	if err := copyData(ctx, n.data(), to.data(), n.c.account); err != nil {
		return err
	}
	rows, err := query(ctx, conn, stop)
	if err != nil {
		return fmt.Errorf("end backup: %w", err)
	}
	return n.c.account.writeFile(filepath.Join(to.data(), "backup_label"), rows[0][0])
}

// copyData copies a data directory that is in use. Files that vanish meanwhile are no error: WAL replay brings about
// the same.
func copyData(ctx context.Context, from, to string, owner account) error {
	return filepath.WalkDir(from, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil
		case err != nil:
			return err
		case ctx.Err() != nil:
			return context.Cause(ctx)
		}
		relative, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		target, name := filepath.Join(to, relative), entry.Name()
		switch {
		case entry.IsDir():
			if strings.HasPrefix(name, "pgsql_tmp") {
				return fs.SkipDir
			}
			if slices.Contains(emptied, relative) {
				if err := makeEmptied(relative, target, owner); err != nil {
					return err
				}
				return fs.SkipDir
			}
			return owner.makeDir(target)
		case slices.Contains(left, name) || strings.HasPrefix(name, "pgsql_tmp"):
			return nil
		case !entry.Type().IsRegular():
			return fmt.Errorf("copy %s: tablespaces and links are not supported", path)
		}
		return copyFile(path, target, owner)
	})
}

// makeEmptied creates a directory of emptied, with the one inside pg_wal that the server expects.
func makeEmptied(relative, target string, owner account) error {
	if err := owner.makeDir(target); err != nil || relative != "pg_wal" {
		return err
	}
	return owner.makeDir(filepath.Join(target, "archive_status"))
}

// copyFile copies one file, unless it has vanished.
func copyFile(from, to string, owner account) error {
	in, err := os.Open(from)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close(), owner.own(to))
}
