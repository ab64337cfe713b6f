package caddyfile

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
)

// The sizes that may follow a number: powers of 1024 with an i, else of 1000.
var units = []struct {
	name string
	size int64
}{
	{"TiB", 1 << 40},
	{"GiB", 1 << 30},
	{"MiB", 1 << 20},
	{"KiB", 1 << 10},
	{"TB", 1e12},
	{"GB", 1e9},
	{"MB", 1e6},
	{"kB", 1e3},
	{"KB", 1e3},
	{"B", 1},
}

// ParseSize reads a number of bytes: "65536", "64KiB", "16MiB", "1.5GiB" (powers
// of 1024) or "64kB", "16MB" (powers of 1000).
func ParseSize(s string) (int64, error) {
	number, unit := s, int64(1)
	for _, u := range units {
		if cut, ok := strings.CutSuffix(s, u.name); ok {
			number, unit = strings.TrimRight(cut, " "), u.size
			break
		}
	}
	if n, err := strconv.ParseInt(number, 10, 64); err == nil {
		if n < 0 || n > math.MaxInt64/unit {
			return 0, fmt.Errorf("size %q is out of range", s)
		}
		return n * unit, nil
	}
	f, err := strconv.ParseFloat(number, 64)
	if err != nil || math.IsNaN(f) {
		return 0, fmt.Errorf("%q is no size", s)
	}
	if f *= float64(unit); f < 0 || f >= math.MaxInt64 {
		return 0, fmt.Errorf("size %q is out of range", s)
	}
	return int64(f), nil
}

// FormatSize writes a number of bytes in the largest unit of 1024 that leaves
// no remainder: "16MiB". [ParseSize] reads it back.
func FormatSize(n int64) string {
	for _, u := range units[:4] {
		if n != 0 && n%u.size == 0 {
			return strconv.FormatInt(n/u.size, 10) + u.name
		}
	}
	return strconv.FormatInt(n, 10)
}

func parseInt(d *Dispenser, name, value string, least int64) (int64, error) {
	n, err := strconv.ParseInt(value, 10, 64)
	if err != nil {
		return 0, d.Errf("option %q: %q is no whole number: write one such as %d", name, value, max(least, 10))
	}
	if n < least {
		return 0, d.Errf("option %q: %d is too small: the least is %d", name, n, least)
	}
	return n, nil
}

func parseFloat(d *Dispenser, name, value string) (float64, error) {
	f, err := strconv.ParseFloat(value, 64)
	if err != nil || math.IsNaN(f) || math.IsInf(f, 0) {
		return 0, d.Errf("option %q: %q is no number: write one such as 0.5", name, value)
	}
	if f < 0 {
		return 0, d.Errf("option %q: %s is negative: the least is 0", name, value)
	}
	return f, nil
}

func parseDuration(d *Dispenser, name, value string) (time.Duration, error) {
	v, err := caddy.ParseDuration(value)
	if err != nil {
		if _, numeric := strconv.ParseFloat(value, 64); numeric == nil {
			return 0, d.Errf("option %q: %q has no unit: write %q for seconds, %q for milliseconds", name, value, value+"s", value+"ms")
		}
		return 0, d.Errf("option %q: %q is no duration: write one such as 500ms, 30s, 5m or 1h", name, value)
	}
	if v < 0 {
		return 0, d.Errf("option %q: %s is negative: the least is 0s", name, value)
	}
	return v, nil
}

func parseSize(d *Dispenser, name, value string) (int64, error) {
	n, err := ParseSize(value)
	if err != nil {
		return 0, d.Errf("option %q: %w: write a number of bytes or one such as 64KiB, 16MiB or 1GiB", name, err)
	}
	return n, nil
}

func parseBool(d *Dispenser, name string, args []string) (bool, error) {
	if len(args) == 0 {
		return true, nil
	}
	switch strings.ToLower(args[0]) {
	case "on", "true", "yes":
		return true, nil
	case "off", "false", "no":
		return false, nil
	}
	return false, d.Errf("option %q: %q is neither on nor off: write %q or %q", name, args[0], name+" on", name+" off")
}
