//go:build linux

// Package proc reads what Linux tells of processes in /proc: processor time and memory of a process and of everything
// it has forked. The benchmark asks it how much a proxy costs. Nothing here changes a process.
// See https://man7.org/linux/man-pages/man5/proc.5.html.
package proc

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// tick is the unit of the times in /proc: USER_HZ, 100 to a second on every Linux that Go knows.
const tick = 10 * time.Millisecond

// stat is what one line of /proc/PID/stat says that is of interest here.
type stat struct {
	pid, parent int
	own         time.Duration // utime + stime
	ended       time.Duration // cutime + cstime: of children that have ended and were waited for
}

// parseStat reads "pid (name) state ppid …". The name may hold spaces and parentheses, so what follows the last one counts.
func parseStat(line []byte) (stat, error) {
	open, end := bytes.IndexByte(line, '('), bytes.LastIndexByte(line, ')')
	if open < 1 || end < open {
		return stat{}, fmt.Errorf("stat %q: no name in parentheses", line)
	}
	pid, err := strconv.Atoi(string(bytes.TrimSpace(line[:open])))
	if err != nil {
		return stat{}, fmt.Errorf("stat: process id: %w", err)
	}
	// The fields of the manual page, counted from 3 ("state"): 4 is the parent, 14 to 17 are the times.
	const parent, utime, stime, cutime, cstime = 4 - 3, 14 - 3, 15 - 3, 16 - 3, 17 - 3
	fields := bytes.Fields(line[end+1:])
	if len(fields) <= cstime {
		return stat{}, fmt.Errorf("stat %q: %d fields behind the name, want more than %d", line, len(fields), cstime)
	}
	s := stat{pid: pid}
	if s.parent, err = strconv.Atoi(string(fields[parent])); err != nil {
		return stat{}, fmt.Errorf("stat: parent: %w", err)
	}
	for i, sum := range map[int]*time.Duration{utime: &s.own, stime: &s.own, cutime: &s.ended, cstime: &s.ended} {
		ticks, err := strconv.ParseInt(string(fields[i]), 10, 64)
		if err != nil {
			return stat{}, fmt.Errorf("stat: time in field %d: %w", i+3, err)
		}
		*sum += time.Duration(ticks) * tick
	}
	return s, nil
}

// all reads every process that can be seen.
func all() (map[int]stat, error) {
	paths, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return nil, err
	}
	found := make(map[int]stat, len(paths))
	for _, path := range paths {
		line, err := os.ReadFile(path)
		if gone(err) {
			continue // it has ended since
		}
		if err != nil {
			return nil, err
		}
		s, err := parseStat(line)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		found[s.pid] = s
	}
	return found, nil
}

// gone reports whether a file of /proc could not be read because its process has ended.
func gone(err error) bool { return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH) }

// tree returns root and everything below it.
func tree(processes map[int]stat, root int) []stat {
	var found []stat
	for _, s := range processes {
		for at, ok := s, true; ok; at, ok = processes[at.parent] {
			if at.pid == root {
				found = append(found, s)
				break
			}
		}
	}
	return found
}

// CPU returns the processor time, user and system, that the process and all it has forked have used, those included that
// have ended. It only grows. Its resolution is 10 ms.
func CPU(root int) (time.Duration, error) {
	processes, err := all()
	if err != nil {
		return 0, fmt.Errorf("processor time of %d: %w", root, err)
	}
	members := tree(processes, root)
	if len(members) == 0 {
		return 0, fmt.Errorf("processor time of %d: no such process", root)
	}
	var sum time.Duration
	for _, s := range members {
		sum += s.own + s.ended
	}
	return sum, nil
}

// Memory is what a tree of processes holds, in bytes.
type Memory struct {
	RSS int64 // pages in memory; those that processes share count for each
	PSS int64 // the same, a page that n processes share counts 1/n for each
}

// MemoryOf returns the memory of the process and all it has forked.
func MemoryOf(root int) (Memory, error) {
	processes, err := all()
	if err != nil {
		return Memory{}, fmt.Errorf("memory of %d: %w", root, err)
	}
	members := tree(processes, root)
	if len(members) == 0 {
		return Memory{}, fmt.Errorf("memory of %d: no such process", root)
	}
	var sum Memory
	for _, s := range members {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", s.pid))
		if gone(err) {
			continue
		}
		if err != nil {
			return Memory{}, fmt.Errorf("memory of %d: %w", root, err)
		}
		m, err := parseRollup(text)
		if err != nil {
			return Memory{}, fmt.Errorf("memory of %d: %w", s.pid, err)
		}
		sum.RSS += m.RSS
		sum.PSS += m.PSS
	}
	return sum, nil
}

// parseRollup reads the lines "Rss: N kB" and "Pss: N kB" of /proc/PID/smaps_rollup.
func parseRollup(text []byte) (Memory, error) {
	var m Memory
	found := 0
	for line := range bytes.Lines(text) {
		fields := bytes.Fields(line)
		if len(fields) != 3 || string(fields[2]) != "kB" {
			continue
		}
		var target *int64
		switch string(fields[0]) {
		case "Rss:":
			target = &m.RSS
		case "Pss:":
			target = &m.PSS
		default:
			continue
		}
		kB, err := strconv.ParseInt(string(fields[1]), 10, 64)
		if err != nil {
			return Memory{}, fmt.Errorf("line %q: %w", line, err)
		}
		*target = kB << 10
		found++
	}
	if found != 2 {
		return Memory{}, fmt.Errorf("%d of the lines Rss and Pss found, want 2", found)
	}
	return m, nil
}
