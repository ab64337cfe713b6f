//go:build linux

package main

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"

	"github.com/fairwaydb/fairway/bench/stat"
)

// countAllocations runs the tests that count allocations on the hot path. Each of them demands zero, so that is the
// figure when they pass, and a failing one says what it counted.
func (b *bench) countAllocations(ctx context.Context) ([]outcome, error) {
	cmd := exec.CommandContext(ctx, "go", "test", "-trimpath", "-count=1", "-run", "Alloc", "./modules/...")
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("allocations: go test: %w\n%s", err, said.Bytes())
	}
	b.logf("allocations: none on the hot path")
	g := goal{id: "g", text: "allocations per transaction on the hot path", unit: "allocations", gate: 0, goal: 0, lower: true}
	return []outcome{{g, stat.Of([]float64{0})}}, nil
}
