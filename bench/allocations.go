//go:build linux

package main

import (
	"bytes"
	"context"
	"os/exec"

	"github.com/fairwaydb/fairway/bench/stat"
)

// countAllocations runs the tests that count allocations on the hot path. Each of them demands zero, so that is the
// figure when they pass; when one fails there is no figure, the gate does not hold, and the log has what was counted.
func (b *bench) countAllocations(ctx context.Context) outcome {
	counted := stat.Of([]float64{0})
	cmd := exec.CommandContext(ctx, "go", "test", "-trimpath", "-count=1", "-run", "Alloc", "./modules/...")
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Run(); err != nil {
		b.logf("allocations: go test: %v\n%s", err, said.Bytes())
		counted = stat.Of(nil)
	} else {
		b.logf("allocations: none on the hot path")
	}
	return outcome{goal{id: "g", text: "allocations per transaction on the hot path", unit: "allocations", gate: 0, goal: 0, lower: true}, counted}
}
